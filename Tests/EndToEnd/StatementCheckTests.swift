import TestSupport
import Testing

@Suite("check tries the statements of load and write")
struct StatementCheckTests {
  private func world(_ caches: String, options: [String] = [], setup: Bool = true) throws -> World {
    try World(options: options + ["\"caches\": {\n\(caches)\n}"], setup: setup)
  }

  private func errors(_ caches: String) throws -> (exit: ChildProcess.Exit, text: String) {
    let done = try world(caches).command("check")
    return (done.exit, done.errors)
  }

  @Test(
    "A wrong statement is an error with its line and PostgreSQL's own words",
    arguments: [
      (#""load": "SELECT name FROM userz WHERE id = :id""#, #"relation "userz" does not exist"#),
      (#""load": "SELECT nam FROM users WHERE id = :id""#, #"column "nam" does not exist"#),
      (#""load": "SELECT name FROM users WHERE id =" "#, "syntax error at end of input"),
      (#""load": "DELETE FROM users WHERE id = :id RETURNING name""#, "would write"),
      (
        #""load": { "sql": "SELECT id, name FROM users WHERE id = :id", "as": "list" }"#,
        #"returns 2 columns, and "as": "list" needs one"#
      ),
      (#""write": { "policy": "through", "sql": "UPDATE userz SET name = :value WHERE id = :id" }"#, "userz"),
      (
        #""write": { "policy": "through", "sql": "UPDATE users SET nam = :value WHERE id = :id" }"#,
        #"column "nam""#
      ),
    ])
  func wrong(option: String, words: String) throws {
    let (exit, text) = try errors("\"product:{id}\": {},\n\"user:{id}\": { \(option) }")
    #expect(exit == .code(1), "\(text)")
    #expect(text.contains(words), "\(text)")
    #expect(text.contains("config.json:4:"), "\(text)")
  }

  @Test(
    "A parameter that cannot take what stands in the keys is named, one that cannot take all of it is warned of",
    arguments: [
      (":id::uuid IS NOT NULL", 1, "parameter :id of \"load\" is of type uuid"),
      (":id::boolean", 1, "is of type boolean"),
      ("id = :id::int", 0, "whose values it cannot all take"),
      ("id = :id::numeric", 0, "spelling is not known"),
    ])
  func types(condition: String, exit: Int32, words: String) throws {
    let sql = "SELECT name FROM users WHERE \(condition)"
    let (code, text) = try errors("\"user:{id}\": { \"load\": \"\(sql)\" }")
    #expect(code == .code(exit) && text.contains(words), "\(text)")
    #expect(text.contains("config.json:3:"), "\(text)")
    if exit == 1 { #expect(text.contains("column \"id\" of type int8"), "\(text)") }
  }

  @Test("What is right passes, and is not run")
  func right() throws {
    let world = try world(
      #"""
      "user:{id}": { "load": "SELECT name, email FROM users WHERE id = :id",
        "write": { "policy": "through", "sql": "UPDATE users SET name = :value WHERE id = :id" } },
      "user:by-email:{email|lower}": { "load": "SELECT id FROM users WHERE lower(email) = :email" },
      "product:{id}": { "load": { "sql": "SELECT * FROM products WHERE id = :id", "as": "hash" },
        "write": { "policy": "through", "sql": "DELETE FROM products WHERE id = :id AND :value = 'x'" } }
      """#)
    let done = try world.command("check")
    #expect(done.exit == .code(0), "\(done.errors)")
    #expect(!done.errors.contains("line"), "\(done.errors)")
    #expect(try world.psql("SELECT count(*) FROM products") == "100")
  }

  @Test("A right that the loader's role lacks is told, and run refuses to start, with the line")
  func rights() throws {
    let role = "reader\(UInt32.random(in: 0 ... .max))"
    let world = try world(
      #"""
      "user:{id}": { "load": "SELECT name FROM users WHERE id = :id" },
      "product:{id}": { "write": { "policy": "through", "sql": "UPDATE products SET stock = :value::int WHERE id = :id" } }
      """#, options: [#""postgres": { "loader": { "url": "${LOADER}" } }"#], setup: false)
    try world.psql("CREATE ROLE \(role) LOGIN; GRANT SELECT ON products TO \(role)")
    let environment = ["LOADER": world.postgres.url(user: role, database: world.database)]
    #expect(try world.command("setup", "--apply", environment: environment).exit == .code(0))
    let check = try world.command("check", environment: environment)
    #expect(check.exit == .code(1), "\(check.errors)")
    #expect(check.errors.contains("permission denied for table users"), "\(check.errors)")
    #expect(check.errors.contains("permission denied for table products"), "\(check.errors)")
    let run = try world.command("run", environment: environment)
    #expect(run.exit == .code(78), "\(run.errors)")
    #expect(run.errors.contains("Line 4 of the configuration: the statement of \"load\""), "\(run.errors)")
    try world.psql("GRANT SELECT ON users TO \(role); GRANT UPDATE (stock) ON products TO \(role)")
    let after = try world.command("check", environment: environment)
    #expect(after.exit == .code(0), "\(after.errors)")
  }
}
