import Admin
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
      Runs in the foreground until SIGTERM or SIGINT. SIGHUP has it read the configuration again: the log says \
      what is taken over, and what needs a restart. A configuration that cannot be used, a missing right or \
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
    sigaddset(&signals, SIGHUP)
    pthread_sigmask(SIG_BLOCK, &signals, nil)

    if let warning = DescriptorLimit.raise(for: settings.clients.most) { log.warning("\(warning)") }
    try StartCheck.run(settings, log)
    guard let mailbox = LoopMailbox() else {
      Output.error("Cannot make an eventfd: \(String(cString: strerror(errno))).")
      throw ExitCode(ExitStatus.bug)
    }
    let stop = StopSignal()
    let environment = Environment.all()
    let manager = ServiceManager(environment: environment)
    let loader = try startLoader(settings, mailbox)
    let logWriter = LogWriterThread(settings.postgres) { mailbox.written($0, $1) }
    guard let logWriter else { throw Self.noThread() }
    let audit: AuditThread?
    var loop: EventLoop
    let places: String
    let socket: String
    do throws(ListenError) {
      let listener = try Self.listener(settings.listen, environment)
      places = listener.places
      socket = listener.path
      audit = AuditThread(settings, socket: socket, mailbox, stop, Logger(label: "audit"))
      loop = try EventLoop(
        settings: settings, listener: listener, mailbox: mailbox, sql: loader,
        logWriter: logWriter, sampler: audit, log: Logger(label: "server"), version: Version.text)
    } catch {
      Output.error(error.description)
      throw ExitCode(ExitStatus.cannotCreate)
    }
    log.notice("listening on \(places)")

    let cadence = SharedCadence(Cadence(bound: settings.shortestBound))
    var threads: [Worker.Handle?] = []
    threads.append(
      Worker.start("tail") {
        var runner = TailRunner(
          settings: settings, cadence: cadence, mailbox: mailbox, stop: stop, log: Logger(label: "tail"))
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
            settings: redis, keys: StateKeys(namespace: namespace), cadence: cadence,
            until: { stop.isSet }, clock: { bootClock() }, hear: { mailbox.hear($0) })
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
    let watch = settings.redis.map { RedisWatch($0, stop) }
    if let watch { threads.append(Worker.start("redis-info") { watch.run() }) }
    if let audit { threads.append(Worker.start("audit") { audit.run() }) }
    let reloader = Reloader(configurationOption.source, settings, cadence, mailbox, manager, log)
    let admin = try startAdmin(settings, AdminDesk(reloader, mailbox, socket: socket, redis: watch), log)
    if let manager {
      let reports = ServiceReports(manager: manager, mailbox: mailbox, stop: stop)
      threads.append(Worker.start("service") { reports.run() })
    }
    let waiter = Worker.start("signals") {
      Self.waitForSignal(stop, mailbox, manager, reloader, settings.log)
    }
    guard waiter != nil, threads.allSatisfy({ $0 != nil }) else { throw Self.noThread() }
    manager?.ready()
    loop.run()
    admin?.stop()
    // Not before: what the loop still owes may need it.
    loader?.stop()
    logWriter.stop()
    for thread in threads { thread?.join() }
  }

  private static func listener(
    _ settings: ListenSettings, _ environment: [String: String]
  ) throws(ListenError) -> ListenSocket {
    let handed = HandedSockets.take(environment: environment)
    return handed.isEmpty ? try ListenSocket(settings) : try ListenSocket(handed: handed, settings)
  }

  /// Nil if it is to listen nowhere.
  private func startAdmin(_ settings: Settings, _ desk: AdminDesk, _ log: Logger) throws -> AdminServer? {
    let admin = settings.admin
    if admin.socket == nil, (settings.listen.path + ".admin").utf8.count > 107 {
      log.warning(
        "there is no admin socket: \(settings.listen.path).admin is longer than the 107 bytes of a Unix socket's path"
      )
    }
    guard admin.socket != nil || admin.tcp != nil else { return nil }
    do {
      var socket: (descriptor: Int32, path: String)?
      if let path = admin.socket { socket = (try ListenSocket.beside(settings.listen, at: path), path) }
      let admission = try Admission(settings.listen)
      let server = try AdminServer(
        socket: socket, tcp: admin.tcp.map { ($0.host, Int($0.port)) }, source: desk,
        admits: { $0 == geteuid() || admission.admits(user: $0, group: $1) })
      let places = [server.places.socket, server.places.tcp.map { "http://" + $0 }].compactMap { $0 }
      log.notice("admin endpoint on \(places.joined(separator: " and "))")
      return server
    } catch {
      Output.error("\(error)")
      throw ExitCode(ExitStatus.cannotCreate)
    }
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

  /// Reads the configuration again at SIGHUP, and stops everything at SIGTERM or SIGINT. What has not ended 10 s
  /// later, or at a second signal, is left to the end of the process: the tail may be waiting for a slot that
  /// PostgreSQL creates only once all writers of that moment have finished.
  private static func waitForSignal(
    _ stop: StopSignal, _ mailbox: LoopMailbox, _ manager: ServiceManager?, _ reloader: Reloader,
    _ lines: LogSettings
  ) {
    var signals = sigset_t()
    sigemptyset(&signals)
    sigaddset(&signals, SIGTERM)
    sigaddset(&signals, SIGINT)
    sigaddset(&signals, SIGHUP)
    var caught: Int32 = 0
    while caught != SIGTERM && caught != SIGINT {
      var second = timespec(tv_sec: 1, tv_nsec: 0)
      caught = sigtimedwait(&signals, nil, &second)
      // On a thread of its own, so that a file which cannot be read to its end does not keep SIGTERM waiting.
      if caught == SIGHUP { _ = Worker.detached("reload") { reloader.reload() } }
      LogLines.flush(lines)
    }
    sigdelset(&signals, SIGHUP)
    Logger(label: "nearside").notice("stopping on signal \(caught)")
    manager?.stopping()
    stop.set()
    mailbox.stop()
    let limit = bootClock().nanoseconds + 10_000_000_000
    while true {
      let left = limit - min(limit, bootClock().nanoseconds)
      var wait = timespec(tv_sec: Int(left / 1_000_000_000), tv_nsec: Int(left % 1_000_000_000))
      // EINTR is no signal of these: the process was stopped and goes on, in a debugger or a freezing container.
      guard sigtimedwait(&signals, nil, &wait) == -1, errno == EINTR else { _exit(0) }
    }
  }
}
