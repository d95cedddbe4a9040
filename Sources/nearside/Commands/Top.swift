import ArgumentParser
import Configuration
import Glibc

struct Top: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Watch a running sidecar: reads, hits, freshness, memory, clients and the hottest keys.",
    discussion: """
      Shows anew every second (--interval) how many reads a second there are, where they were answered, for each \
      template as well, how old a near answer can be beside the bound, the lag, memory, which libraries clients use, \
      and the keys that are read most. Keys are drawn from one in 1024 near hits, so a sidecar that has just begun \
      shows none. It ends with ^C. If its output is no terminal, or with --once, it prints one such picture of one \
      interval.

      EXAMPLES
        nearside top
        nearside top --once --interval 5
      """)

  @OptionGroup var adminOption: AdminOption

  @Flag(help: "Print the figures of one interval, and end.")
  var once = false

  @Option(help: ArgumentHelp("How long an interval is, in seconds, at least 0.1.", valueName: "SECONDS"))
  var interval = 1.0

  func validate() throws {
    guard interval >= 0.1, interval <= 3600 else {
      throw ValidationError("--interval is a number of seconds from 0.1 to 3600.")
    }
  }

  func run() throws {
    let client = try adminOption.client()
    let first = try AdminOption.asking { try Self.ask(client) }
    if once || isatty(STDOUT_FILENO) == 0 { return try printOnce(client, first) }
    watch(client, first)
  }

  private static func ask(_ client: AdminClient) throws(AdminClient.Failure) -> JSONNode {
    // The terminal is not given back before this ends.
    let answer = try client.get("/status?keys", timeout: 3)
    guard answer.status == 200, let node = JSONReader.read(Array(answer.body.utf8)).node else {
      throw AdminClient.Failure(description: answer.body.filter { $0 != "\n" })
    }
    return node
  }

  private func printOnce(_ client: AdminClient, _ first: JSONNode) throws {
    usleep(useconds_t(interval * 1_000_000))
    let second = try AdminOption.asking { try Self.ask(client) }
    let columns =
      isatty(STDOUT_FILENO) == 1
      ? Screen.size().columns : Environment.value("COLUMNS").flatMap { Int($0) } ?? 80
    let frame = TopFrame(now: second, before: first, width: columns)
    Files.write(frame.lines.map { $0.text + "\n" }.joined(), descriptor: STDOUT_FILENO)
  }

  // MARK: The screen

  /// Until a signal asks for the end, or the terminal is gone. Signals are waited for, never caught: so the screen is
  /// given back in one place.
  private func watch(_ client: AdminClient, _ first: JSONNode) {
    var signals = sigset_t()
    sigemptyset(&signals)
    for number in [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP, SIGWINCH] { sigaddset(&signals, number) }
    pthread_sigmask(SIG_BLOCK, &signals, nil)
    signal(SIGPIPE, SIG_IGN)
    var screen = Screen(isColoured: (Environment.value("NO_COLOR") ?? "").isEmpty)
    var (now, before): (JSONNode, JSONNode?) = (first, nil)
    var trouble: String?
    guard screen.enter() else { return }
    while true {
      let size = Screen.size()
      let frame = TopFrame(now: now, before: before, trouble: trouble, width: size.columns)
      guard screen.draw(frame.lines, rows: size.rows) else { return }
      let caught = wait(signals)
      switch caught {
      case SIGWINCH: continue
      case SIGTSTP:
        screen.leave()
        kill(getpid(), SIGSTOP)
        guard screen.enter() else { return }
        continue
      case let number where number > 0:
        screen.leave()
        if number == SIGINT { _exit(130) }
        return
      default: break
      }
      do throws(AdminClient.Failure) {
        let next = try Self.ask(client)
        (before, now, trouble) = (now, next, nil)
      } catch {
        trouble = "These figures are old: \(error)"
      }
    }
  }

  /// The signal that came within the interval; negative: none.
  private func wait(_ signals: sigset_t) -> Int32 {
    var signals = signals
    let nanoseconds = UInt64(interval * 1_000_000_000)
    var limit = timespec(
      tv_sec: Int(nanoseconds / 1_000_000_000), tv_nsec: Int(nanoseconds % 1_000_000_000))
    return sigtimedwait(&signals, nil, &limit)
  }
}
