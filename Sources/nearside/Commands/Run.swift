import ArgumentParser
import Configuration
import Glibc
import Invalidation
import Logging
import Redis
import Server

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Run the sidecar.",
    discussion: """
      Runs in the foreground until SIGTERM or SIGINT. A configuration that cannot be used, a missing right or \
      a missing publication ends it at once (exit codes 78 and 77); a PostgreSQL or Redis that is only down is \
      waited for, and the socket says so meanwhile.

      EXAMPLES
        nearside run --config config.json
        DATABASE_URL=postgresql://nearside@db/shop REDIS_URL=redis://cache nearside run --config config.json
      """)

  @OptionGroup var configurationOption: ConfigurationOption

  func run() throws {
    let settings = try configurationOption.load().settings
    LogLines.bootstrap(settings.log)
    let log = Logger(label: "nearside")
    signal(SIGPIPE, SIG_IGN)
    // Every thread made from here on leaves these to the one that waits for them.
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGTERM)
    sigaddset(&signals, SIGINT)
    pthread_sigmask(SIG_BLOCK, &signals, nil)

    if let warning = DescriptorLimit.raise(for: settings.clients.most) { log.warning("\(warning)") }
    try StartCheck.run(settings, log)
    guard let mailbox = LoopMailbox() else {
      Output.error("Cannot make an eventfd: \(String(cString: strerror(errno))).")
      throw ExitCode(ExitStatus.bug)
    }
    let stop = StopSignal()
    let loader = try startLoader(settings, mailbox)
    let logWriter = LogWriterThread(settings.postgres) { mailbox.written($0, $1) }
    guard let logWriter else { throw Self.noThread() }
    var loop: EventLoop
    let places: String
    do throws(ListenError) {
      let listener = try ListenSocket(settings.listen)
      places = listener.places
      loop = try EventLoop(
        settings: settings, listener: listener, mailbox: mailbox, sql: loader,
        logWriter: logWriter, log: Logger(label: "server"), version: Version.text)
    } catch {
      Output.error(error.description)
      throw ExitCode(ExitStatus.cannotCreate)
    }
    log.notice("listening on \(places)")

    var threads: [Worker.Handle?] = []
    threads.append(
      Worker.start("tail") {
        var runner = TailRunner(settings: settings, mailbox: mailbox, stop: stop, log: Logger(label: "tail"))
        runner.run()
      })
    if BehindPlan(settings) != nil {
      threads.append(
        Worker.start("flusher") {
          guard
            var flusher = Flusher(
              settings: settings, mailbox: mailbox, stop: stop, log: Logger(label: "writes"))
          else { return }
          flusher.run()
        })
    }
    if let redis = settings.redis, let namespace = settings.namespace {
      threads.append(
        Worker.start("feed") {
          RedisFeed.follow(
            settings: redis, keys: StateKeys(namespace: namespace), until: { stop.isSet },
            clock: { bootClock() }, hear: { mailbox.hear($0) })
        })
      if !settings.subscribe.isEmpty {
        let log = Logger(label: "channels")
        threads.append(
          Worker.start("channels") {
            RedisChannels.listen(
              settings: redis, channels: settings.subscribe, until: { stop.isSet },
              hear: { mailbox.announce($0) }, trouble: { log.warning("\($0)") })
          })
      }
    }
    let waiter = Worker.start("signals") { Self.waitForSignal(stop, mailbox) }
    guard waiter != nil, threads.allSatisfy({ $0 != nil }) else { throw Self.noThread() }
    loop.run()
    // Not before: what the loop still owes may need it.
    loader?.stop()
    logWriter.stop()
    for thread in threads { thread?.join() }
  }

  /// Nil if no cache has a statement to run.
  private func startLoader(_ settings: Settings, _ mailbox: LoopMailbox) throws -> LoaderThread? {
    let statements = SQLStatements(settings).all
    guard !statements.isEmpty else { return nil }
    let loader = LoaderThread(settings.postgres, statements: statements) { mailbox.finished($0) }
    guard let loader else { throw Self.noThread() }
    return loader
  }

  private static func noThread() -> ExitCode {
    Output.error("Cannot start a thread: the system refuses one. Raise the limit of processes.")
    return ExitCode(ExitStatus.bug)
  }

  /// Stops everything at SIGTERM or SIGINT. What has not ended 10 s later, or at a second signal, is left to the
  /// end of the process: the tail may be waiting for a slot that PostgreSQL creates only once all writers of
  /// that moment have finished.
  private static func waitForSignal(_ stop: StopSignal, _ mailbox: LoopMailbox) {
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGTERM)
    sigaddset(&signals, SIGINT)
    var caught: Int32 = 0
    sigwait(&signals, &caught)
    Logger(label: "nearside").notice("stopping on signal \(caught)")
    stop.set()
    mailbox.stop()
    var limit = timespec(tv_sec: 10, tv_nsec: 0)
    sigtimedwait(&signals, nil, &limit)
    _exit(0)
  }
}
