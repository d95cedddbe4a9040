import ArgumentParser
import CLinux
import Configuration
import Glibc
import Invalidation
import Redis

struct Doctor: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Examine PostgreSQL, Redis and this host, and say what to do about what is wrong.",
    discussion: """
      Everything that a sidecar depends on, with ✓ for what is as it should be, ! for what will cost something \
      one day and ✗ for what does not work, and below it what to do. Nothing is changed; it may be run beside a \
      running sidecar. Run it as the sidecar's user. Exit codes: 0 no problem, 1 problems (with --strict also \
      warnings), 69 the only problem is a server that cannot be reached, 78 the file cannot be used.

      EXAMPLES
        nearside doctor --config config.json
        nearside doctor --config config.json --as postgresql://postgres@db/shop --json
      """)

  @OptionGroup var configurationOption: ConfigurationOption

  @Flag(help: "Print one JSON object.")
  var json = false

  @Flag(help: "Exit with 1 for warnings too.")
  var strict = false

  @Option(
    name: .customLong("as"),
    help: ArgumentHelp(
      "The connection of a database administrator, who sees more than the sidecar's role.", valueName: "URL"))
  var administrator: String?

  func run() throws {
    let began = clinux_boot_nanoseconds()
    let loaded = try configurationOption.load()
    let settings = loaded.settings
    var database = DatabaseDoctor(
      settings, file: loaded.source.file, administrator: administrator.map { Secret($0) })
    database.look()
    var groups = [
      DoctorReport.Group(
        name: "postgres", title: "PostgreSQL" + (database.place.isEmpty ? "" : ", \(database.place)"),
        findings: database.findings)
    ]
    if let redis = settings.redis {
      let findings = RedisPreflight.survey(
        settings: redis, keys: StateKeys(namespace: settings.namespace ?? ""), keyPrefix: settings.keyPrefix,
        writesBehind: settings.writesBehind, clock: { clinux_boot_nanoseconds() })
      groups.append(DoctorReport.Group(name: "redis", title: "Redis", findings: findings))
    }
    groups.append(
      DoctorReport.Group(name: "host", title: "This host", findings: HostFacts.read(settings).findings))
    if let findings = SidecarFindings.ask(settings) {
      groups.append(DoctorReport.Group(name: "sidecar", title: "The sidecar that runs", findings: findings))
    }
    let report = DoctorReport(groups: groups, duration: clinux_boot_nanoseconds() - began)
    let isTerminal = isatty(STDOUT_FILENO) == 1 && (Environment.value("NO_COLOR") ?? "").isEmpty
    print(json ? report.json : report.text(coloured: isTerminal), terminator: "")
    let status = report.exitStatus(strict: strict)
    if status != 0 { throw ExitCode(status) }
  }
}
