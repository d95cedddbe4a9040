import TestSupport
import Testing

@Suite("The command line")
struct CommandLineTests {
  /// Runs a verb on a configuration that is written for it; the file is called `config.json` in messages.
  private func command(
    _ verb: String, _ configuration: String, _ arguments: String..., environment: [String: String] = [:]
  ) throws -> Finished {
    let folder = try TemporaryFolder()
    try folder.write(configuration, to: "config.json")
    return try Sidecar.command(
      [verb, "--config", "config.json"] + arguments, environment: environment, directory: folder.path)
  }

  private let good = """
    { "namespace": "shop", "tables": { "users": ["user:{id}", "user:by-email:{email|lower}"] } }
    """

  // MARK: Help

  @Test("version prints name and version, and every verb's --help shows examples")
  func help() throws {
    let version = try Sidecar.command(["version"])
    #expect(version.exit == .code(0))
    #expect(version.output.hasPrefix("nearside ") && version.output.contains("."))
    for verb in ["", "run", "check", "doctor", "setup", "uninstall", "explain", "version"] {
      let done = try Sidecar.command((verb.isEmpty ? [] : [verb]) + ["--help"])
      #expect(done.exit == .code(0))
      #expect(done.output.contains("EXAMPLES\n  nearside "), "\(verb): \(done.output)")
      if !verb.isEmpty { #expect(done.output.contains("  nearside \(verb)"), "\(verb)") }
    }
  }

  @Test("Arguments that nobody understands end with 64 and say where the help is")
  func usage() throws {
    for arguments in [["bogus"], ["run", "--nope"], ["explain"], ["setup", "--as"], ["check", "a", "b"]] {
      let done = try Sidecar.command(arguments)
      #expect(done.exit == .code(64), "\(arguments): \(done.exit)")
      #expect(done.errors.contains("--help"), "\(arguments): \(done.errors)")
      #expect(done.output.isEmpty)
    }
  }

  // MARK: check

  @Test("check --offline needs no server and prints nothing but that the file is good")
  func offline() throws {
    let done = try command("check", good, "--offline")
    #expect(done.exit == .code(0), "\(done.errors)")
    #expect(done.output == "config.json: good (1 tables; PostgreSQL and Redis not asked)\n")
    #expect(done.errors.isEmpty)
  }

  @Test("check shows all errors of a file at once, each with its place, its line and what was meant")
  func errors() throws {
    let done = try command(
      "check",
      """
      {
        "namespace": "shop",
        "stalenes": { "bound": "2s" },
        "near": { "size": "256 monkeys" },
        "namespace": "again",
        "plainSet": "windows",
        "tables": {
          "users": { "key": "user:{id}" },
          "orders": "order:{id|lowr}",
          "items": "item:{id"
        }
      }
      """, "--offline")
    #expect(done.exit == .code(78))
    let text = done.errors
    for place in [3, 4, 5, 6, 8, 9, 10].map({ "config.json:\($0):" }) {
      #expect(text.contains(place), "\(place) in:\n\(text)")
    }
    for meant in ["staleness", "window", "keys", "lower"] {
      #expect(text.contains("did you mean \"\(meant)\""), "\(meant) in:\n\(text)")
    }
    // The offending line stands below its message.
    #expect(text.contains("3 |   \"stalenes\": {"), "\(text)")
    #expect(done.output.isEmpty)
  }

  @Test("A file that is no JSON, or is not there, ends with 78 and says where")
  func unreadable() throws {
    let done = try command("check", "{ \"namespace\": \"shop\",\n  tables: {} }", "--offline")
    #expect(done.exit == .code(78))
    #expect(done.errors.contains("config.json:2:3"), "\(done.errors)")
    let missing = try Sidecar.command(["check", "--config", "/nowhere/config.json"])
    #expect(missing.exit == .code(78))
    #expect(missing.errors.contains("/nowhere/config.json") && missing.errors.contains("--config"))
  }

  @Test("check asks both servers: good is 0, with what it asked")
  func checkGood() throws {
    let world = try World()
    let done = try world.command("check")
    #expect(done.exit == .code(0), "\(done.errors)")
    #expect(done.output.hasSuffix("good (3 tables, PostgreSQL and Redis asked)\n"), "\(done.output)")
    #expect(!done.errors.contains("error"), "\(done.errors)")
  }

  @Test("check finds what the database lacks: 1, each finding with its place or its fix")
  func checkFindings() throws {
    let world = try World(
      tables: """
        {
          "users": "user:{idd}",
          "products": "product:{name}",
          "bare": "bare:{id}",
          "nowhere": "nowhere:{id}"
        }
        """,
      schema: World.schema + "CREATE TABLE bare (id int); CREATE PUBLICATION other FOR TABLE users;",
      setup: false)
    let done = try world.command("check")
    #expect(done.exit == .code(1))
    let text = done.errors
    let users = #/config\.json:\d+:\d+: error: template "user:\{idd\}".*did you mean "id"/#
    #expect(text.contains(users), "\(text)")
    let products = #/config\.json:\d+:\d+: error: template "product:\{name\}".*REPLICA IDENTITY FULL/#
    #expect(text.contains(products), "\(text)")
    #expect(text.contains("public.bare has no primary key"), "\(text)")
    #expect(text.contains("nowhere"), "\(text)")
    #expect(text.contains("Publication nearside_\(world.database) does not exist. Run nearside setup."))
    #expect(done.output.isEmpty)
    // It has changed nothing.
    #expect(try world.psql("SELECT count(*) FROM pg_publication") == "1")
  }

  @Test("check ends with 69 if PostgreSQL or Redis cannot be reached, and says which")
  func checkUnreachable() throws {
    let nobody = try command(
      "check", good, environment: ["DATABASE_URL": "postgresql://u@/d?host=/nowhere"])
    #expect(nobody.exit == .code(69), "\(nobody.errors)")
    #expect(nobody.errors.contains("PostgreSQL cannot be reached"), "\(nobody.errors)")
    let world = try World()
    try world.redis?.stop()
    let done = try world.command("check")
    #expect(done.exit == .code(69), "\(done.errors)")
    #expect(done.errors.contains("Redis"), "\(done.errors)")
  }

  // MARK: setup, uninstall

  @Test("setup prints SQL that psql can run, and changes nothing without --apply")
  func setupPrints() throws {
    let world = try World(setup: false)
    let printed = try world.command("setup")
    #expect(printed.exit == .code(0), "\(printed.errors)")
    let name = "nearside_\(world.database)"
    #expect(try world.psql("SELECT count(*) FROM pg_publication") == "0")
    #expect(try world.psql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '\(name)'") == "0")
    try world.psql(printed.output)
    #expect(try world.psql("SELECT pubname FROM pg_publication") == name)
    #expect(try world.psql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '\(name)'") == "1")
    // The slot must be younger than its publication.
    let text = printed.output
    let publication = try #require(text.firstRange(of: "CREATE PUBLICATION"))
    let slot = try #require(text.firstRange(of: "pg_create_logical_replication_slot"))
    #expect(publication.lowerBound < slot.lowerBound)
    #expect(try world.command("setup").output == "-- nothing to do\n")
    #expect(try world.command("check").exit == .code(0))
  }

  @Test(
    "setup --as makes a role with just enough rights: a fleet works under it, and uninstall takes all back")
  func role() throws {
    let world = try World(setup: false)
    let role = "\(world.database)_sidecar"
    let environment = ["DATABASE_URL": world.postgres.url(user: role, database: world.database)]
    let administrator = world.postgres.url(database: world.database)
    func verb(_ name: String, _ arguments: String...) throws -> Finished {
      let folder = try TemporaryFolder()
      let file = try folder.write(world.configuration, to: "config.json")
      return try Sidecar.command(
        [name, "--config", file] + arguments, environment: world.environment.merging(environment) { $1 })
    }
    let first = try verb("setup", "--as", administrator, "--apply")
    #expect(first.exit == .code(0), "\(first.output)\(first.errors)")
    #expect(first.output.contains("CREATE ROLE") && first.output.contains("LOGIN REPLICATION"))
    let second = try verb("setup", "--as", administrator, "--apply")
    #expect(
      second.exit == .code(0) && second.output == "-- nothing to do\n", "\(second.output)\(second.errors)")
    #expect(
      try world.psql(
        "SELECT rolsuper, rolreplication, rolcreatedb, rolbypassrls FROM pg_roles WHERE rolname = '\(role)'")
        == "f|t|f|f")
    let check = try verb("check")
    #expect(check.exit == .code(0), "\(check.errors)")

    let sidecar = try world.sidecar(environment: environment)
    #expect(
      try world.psql(
        "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = current_database() "
          + "AND pid <> pg_backend_pid()") == role)
    try sidecar.store(world.key("user:1"), "one")
    #expect(try sidecar.get(world.key("user:1")) == "one")
    try world.psql("UPDATE users SET name = 'new' WHERE id = 1")
    try world.settle(sidecar)
    try expectGone(world.key("user:1"), world, sidecar)
    // Streaming needs no right to read the tables.
    #expect(throws: HarnessError.self) {
      try world.postgres.psql("SELECT * FROM users", database: world.database, user: role)
    }

    let busy = try verb("uninstall", "--as", administrator, "--apply")
    #expect(busy.exit == .code(1) && busy.output.contains("stop all sidecars first"), "\(busy.output)")
    try sidecar.terminate()
    let printed = try verb("uninstall", "--as", administrator)
    #expect(printed.exit == .code(0) && printed.output.contains("DROP PUBLICATION"), "\(printed.output)")
    #expect(try world.psql("SELECT count(*) FROM pg_publication") == "1")
    let done = try verb("uninstall", "--as", administrator, "--apply")
    #expect(done.exit == .code(0), "\(done.output)\(done.errors)")
    #expect(
      try world.psql(
        """
        SELECT (SELECT count(*) FROM pg_publication),
          (SELECT count(*) FROM pg_replication_slots WHERE database = current_database()),
          (SELECT count(*) FROM pg_roles WHERE rolname = '\(role)'),
          (SELECT count(*) FROM pg_namespace WHERE nspname = 'nearside')
        """) == "0|0|0|0")
    let again = try verb("uninstall", "--as", administrator, "--apply")
    #expect(again.exit == .code(0) && again.output == "-- nothing to do\n", "\(again.output)\(again.errors)")
  }

  @Test("setup refuses a table without replica identity, and then does nothing at all")
  func refusal() throws {
    let world = try World(
      tables: #"{ "users": "user:{id}", "bare": "bare:{id}", "nothing": "nothing:{id}" }"#,
      schema: World.schema
        + """
        CREATE TABLE bare (id int);
        CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
        """, setup: false)
    let done = try world.command("setup", "--apply")
    #expect(done.exit == .code(1))
    #expect(done.output.contains("refused: ") && done.output.contains("bare"), "\(done.output)")
    #expect(done.output.contains("nothing") && done.output.contains("REPLICA IDENTITY"), "\(done.output)")
    #expect(!done.output.contains("CREATE PUBLICATION"))
    #expect(try world.psql("SELECT count(*) FROM pg_publication") == "0")
    // The application's own writes go on.
    try world.psql("INSERT INTO bare VALUES (1); UPDATE bare SET id = 2; DELETE FROM bare")
  }

  @Test("setup without the rights it needs says so, and names what it was running")
  func setupWithoutRights() throws {
    let world = try World(setup: false)
    let role = "\(world.database)_weak"
    try world.psql("CREATE ROLE \(role) LOGIN")
    let done = try world.command(
      "setup", "--apply",
      environment: ["DATABASE_URL": world.postgres.url(user: role, database: world.database)])
    #expect(done.exit == .code(77), "\(done.exit)")
    #expect(
      done.errors.contains("permission denied") && done.errors.contains("while running: "), "\(done.errors)")
  }

  // MARK: explain

  @Test("explain shows the keys of a row, of the old and the new one, and why there is none")
  func explain() throws {
    let world = try World()
    func explain(_ arguments: String...) throws -> [String] {
      let folder = try TemporaryFolder()
      let file = try folder.write(world.configuration, to: "config.json")
      let done = try Sidecar.command(
        ["explain", "--config", file] + arguments, environment: world.environment)
      #expect(done.exit == .code(0), "\(done.errors)")
      return done.output.split(separator: "\n").map(String.init)
    }
    let name = world.database
    #expect(
      try explain("users", #"{"id":42,"email":"Ann@Example.org"}"#) == [
        "\(name):user:42    user:{id}",
        "\(name):user:by-email:ann@example.org    user:by-email:{email|lower}",
      ])
    #expect(
      try explain("public.users", #"{"id":42,"email":"b@x"}"#, "--old", #"{"id":42,"email":"a@x"}"#) == [
        "\(name):user:42    user:{id}", "\(name):user:by-email:b@x    user:by-email:{email|lower}",
        "\(name):user:by-email:a@x    user:by-email:{email|lower} (old row)",
      ])
    let none = try explain("users", #"{"id":42,"email":null}"#)
    #expect(none.count == 2 && none.last?.hasPrefix("-    ") == true, "\(none)")
    #expect(none.last?.contains("column \"email\" is NULL") == true, "\(none)")
    // What it says is what happens.
    #expect(
      try explain("order_items", #"{"order_id":"7","line_no":1}"#, "--operation", "delete")
        == ["\(name):order:7:item:1    order:{order_id}:item:{line_no} (old row)"])
    #expect(try explain("users", #"{"id":"a:b"}"#, "--offline").first == "\(name):user:a%3Ab    user:{id}")
  }

  @Test("explain ends with 65 on a row that is no JSON object, and on a table that no mapping names")
  func explainErrors() throws {
    for row in ["{\"id\":", "42", "[1]", "{\"id\":{}}", ""] {
      let done = try command("explain", good, "users", row, "--offline")
      #expect(done.exit == .code(65), "\(row): \(done.exit) \(done.output)\(done.errors)")
      #expect(
        done.errors.contains("JSON") || done.errors.contains("must be a string"), "\(row): \(done.errors)")
    }
    let table = try command("explain", good, "user", #"{"id":1}"#, "--offline")
    #expect(table.exit == .code(65) && table.errors.contains("public.user"), "\(table.errors)")
    #expect(try command("explain", good, "users", "{}", "--operation", "x", "--offline").exit == .code(64))
  }
}
