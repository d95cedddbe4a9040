import ArgumentParser

struct Health: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Ask a running sidecar whether it is well.",
    discussion: """
      Prints "ok", with the socket that was asked if that was not named, or a line for each reason why not. \
      Exit codes: 0 well, 1 not, 69 nobody answers. Without \
      --strict a sidecar is well if it answers its clients, be it without fresh values; with it, PostgreSQL's log \
      must be followed within the bound too.

      EXAMPLES
        nearside health
        nearside health --strict --admin /run/nearside/redis.sock.admin
      """)

  @OptionGroup var adminOption: AdminOption

  @Flag(help: "Also require that PostgreSQL's log is followed, within the staleness bound.")
  var strict = false

  func run() throws {
    let client = try adminOption.client()
    let answer = try AdminOption.asking { try client.get(strict ? "/readyz?strict" : "/readyz") }
    if answer.status == 200, !adminOption.isNamed {
      print("ok (\(client.path))")
    } else {
      print(answer.body, terminator: "")
    }
    if answer.status != 200 { throw ExitCode(ExitStatus.findings) }
  }
}
