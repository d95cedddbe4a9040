import Foundation
import Synchronization
import TestSupport

/// How many statements reach PostgreSQL when a hot key changes and when everything is flushed, with each protection on
/// and off. Prints the README's table.
@main
struct DatabaseView {
  static let usage = """
    Usage: database-view [--short] [--only TEXT]

      --short       a second and fewer clients for each row: whether the tool works, no numbers to rely upon
      --only TEXT   only the rows whose names hold it
    """

  static func main() throws {
    var arguments = CommandLine.arguments.dropFirst()
    var load = Load.whole
    var only = ""
    while let argument = arguments.popFirst() {
      switch argument {
      case "--short": load = .short
      case "--only": only = arguments.popFirst() ?? ""
      default:
        print(usage)
        exit(64)
      }
    }
    let postgres = try PostgresServer(settings: [
      "shared_preload_libraries": "'pg_stat_statements'", "max_connections": "200",
    ])
    print(
      """
      \(load.hotClients) clients read one key, \(load.changes) changes/s for \(load.hotSeconds) s; \
      \(load.flushClients) clients read \(load.keys) keys, then a flush. Three hosts. A load takes 20 ms.

      | | hot key: statements/s | reads/s | slowest 1 % | flush: statements |
      |---|---:|---:|---:|---:|
      """)
    var rows = 0
    var refusals: [String] = []
    for setup in Setup.all where only.isEmpty || setup.name.contains(only) {
      let hot = try Site(setup, postgres, keys: load.keys).hotKey(load)
      let flush = try Site(setup, postgres, keys: load.keys).flush(load)
      rows += 1
      print(
        "| \(setup.name) | \(hot.statements) | \(hot.reads) | \(hot.slow) ms | \(flush.statements) |")
      fflush(nil)
      let refused = hot.refusals + flush.refusals
      guard let first = refused.first else { continue }
      refusals.append("\(setup.name): \(refused.count) reads failed: \(first)")
    }
    for line in refusals { print(line) }
    exit(rows > 0 && refusals.isEmpty ? 0 : 1)
  }
}

struct Load {
  var hotClients = 200
  var hotSeconds = 5
  var changes = 10
  var flushClients = 1000
  var flushSeconds = 4
  var keys = 1000

  static let whole = Load()
  static let short = Load(
    hotClients: 20, hotSeconds: 1, changes: 10, flushClients: 50, flushSeconds: 1, keys: 100)
}

/// One row of the table.
struct Setup {
  var name: String
  /// nil: applications and Redis alone. Otherwise what the configuration says of the keys.
  var cache: String?
  /// Whether the sidecar loads, or else the application.
  var loads = false

  private static let load = #""load": { "sql": "SELECT body FROM items, pg_sleep(0.02) WHERE id = :id" }"#
  private static func loading(_ more: String...) -> Setup {
    Setup(
      name: "", cache: "{ " + ([load, #""ttl": "10m""#] + more).joined(separator: ", ") + " }", loads: true)
  }

  private func named(_ name: String) -> Setup {
    var setup = self
    setup.name = name
    return setup
  }

  static let all = [
    Setup(name: "cache-aside, Redis alone"),
    Setup(name: "cache-aside through Nearside", cache: #"{ "ttl": "10m" }"#),
    Setup(
      name: "the same, `coalesce`", cache: #"{ "ttl": "10m", "stampede": { "coalesce": true } }"#),
    loading(#""stampede": { "coalesce": false }"#).named("`load`, `coalesce: false`"),
    loading().named("`load`"),
    loading(#""stampede": { "lock": "2s" }"#).named("`load`, `lock`"),
    loading(#""stampede": { "lock": "2s", "early": true }"#).named("`load`, `lock`, `early`"),
    loading(#""stampede": { "lock": "2s", "early": true }"#, #""onChange": "refresh""#)
      .named("`load`, `lock`, `early`, `onChange: refresh`"),
  ]
}
