import ArgumentParser
import TLS

/// The command line.
@main struct Nearside: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "nearside",
    abstract: "A near cache beside your application that PostgreSQL keeps honest.",
    discussion: """
      One process on each application host. It follows PostgreSQL's log, clears the cache keys of every row \
      that changes, and answers Redis clients on a Unix socket from this host's memory.

      EXAMPLES
        nearside check --config config.json
        nearside setup --config config.json --as postgresql://postgres@db/shop --apply
        nearside doctor --config config.json
        nearside run --config config.json
        redis-cli -s /run/nearside/redis.sock GET shop:user:42
      """,
    version: Version.text,
    subcommands: [
      Run.self, Check.self, Doctor.self, Setup.self, Uninstall.self, Explain.self, Health.self, Stats.self,
      Top.self, Tail.self, Get.self, Invalidate.self, Reload.self, ShowVersion.self,
    ])

  static func main() {
    SecureSocket.prepare()
    main(nil)
  }
}

/// What this program is.
enum Version {
  static let text = "0.1.0"
}

struct ShowVersion: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "version", abstract: "Print the version.",
    discussion: "EXAMPLES\n  nearside version")

  func run() { print("nearside \(Version.text)") }
}
