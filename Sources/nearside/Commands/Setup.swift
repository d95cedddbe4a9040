import ArgumentParser
import Configuration
import Postgres

/// The options that `setup` and `uninstall` share.
struct SetupOptions: ParsableArguments {
  @OptionGroup var configurationOption: ConfigurationOption

  @Option(
    name: .customLong("as"),
    help: ArgumentHelp(
      "The connection of a database administrator; default: the configuration's own.", valueName: "URL"))
  var administrator: String?

  @Flag(help: "Run the statements. Without it they are only printed.")
  var apply = false

  /// Prints a plan, and carries it out if asked to.
  func perform(
    _ make: @escaping (SetupRequest, borrowing SQLSession) throws(PostgresError) -> SetupPlan
  ) throws {
    let settings = try configurationOption.load().settings
    var refused = false
    do throws(PostgresError) {
      var connection = settings.postgres
      var role: String?
      if let administrator {
        role = try settings.postgres.role()
        connection.url = Secret(administrator)
        connection.password = nil
      }
      let session = try SQLSession(connection)
      let request = SetupRequest(
        postgres: settings.postgres, namespace: settings.namespace,
        tables: settings.tables.map { TableName(schema: $0.schema, name: $0.name) }, role: role)
      let plan = try make(request, session)
      print(plan.description, terminator: "")
      refused = !plan.refusals.isEmpty
      if apply, !refused, !plan.statements.isEmpty {
        var count = 0
        let refusals = try plan.apply(
          session, done: { _ in count += 1 },
          again: { (session: borrowing SQLSession) throws(PostgresError) in try make(request, session) })
        print("-- done: \(count) statements")
        for refusal in refusals { print("-- refused: \(refusal)") }
        refused = !refusals.isEmpty
      }
    } catch {
      Output.error(error.description)
      throw ExitCode(StartCheck.exitStatus(error))
    }
    if refused { throw ExitCode(ExitStatus.findings) }
  }
}

struct Setup: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print, or with --apply run, the SQL that makes a database ready for sidecars.",
    discussion: """
      Publication, slot, Nearside's own schema with the function nearside.invalidate, and with --as the \
      sidecars' role and its rights. A superuser also gets the event triggers that say when a published \
      table's definition changes; without them sidecars look once a second. Only what is missing; may be run \
      twice, and while sidecars run. It refuses what would make the application's own writes fail, such as \
      publishing a table without a replica identity.

      EXAMPLES
        nearside setup --config config.json
        nearside setup --config config.json --as postgresql://postgres@db/shop --apply
      """)

  @OptionGroup var options: SetupOptions

  func run() throws {
    try options.perform { (request, session) throws(PostgresError) in try SetupPlan.setup(request, session) }
  }
}

struct Uninstall: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print, or with --apply run, the SQL that removes what setup made.",
    discussion: """
      EXAMPLES
        nearside uninstall --config config.json
        nearside uninstall --config config.json --as postgresql://postgres@db/shop --apply
      """)

  @OptionGroup var options: SetupOptions

  func run() throws {
    try options.perform { (request, session) throws(PostgresError) in
      try SetupPlan.uninstall(request, session)
    }
  }
}
