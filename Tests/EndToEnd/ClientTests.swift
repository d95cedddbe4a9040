import Foundation
import TestSupport
import Testing

/// The Python that has the libraries; nil: they are not installed.
private let python = ProcessInfo.processInfo.environment["NEARSIDE_TEST_PYTHON"]

/// Real client libraries, each by a script of `Tests/Clients` that does with its library what applications do:
/// strings, hashes, pipelines, transactions, messages, scripts, locks. `Tests/run` installs them.
@Suite("Client libraries", .enabled(if: python != nil))
struct ClientTests {
  private static let scripts = [
    "redis_py.py", "redis_py_async.py", "redis_py_cache.py", "coredis_client.py", "valkey_glide.py",
    "frameworks.py",
    "redis_rb.rb",
    "phpredis.php", "redis_pm.pl", "node_redis.js", "redis_lua.lua", "redis_tools.sh",
    "redigo.go", "hiredis.c",
    "rails_cache.rb", "laravel_cache.php", "symfony_cache.php",
  ]

  @Test("Every library finds what it finds in Redis", arguments: scripts)
  func library(script: String) throws {
    // FLUSHDB is what frameworks empty a cache with. The window is how long a SET of a key that was deleted a moment
    // ago is refused.
    let world = try World(options: [
      #""commands": { "allow": ["flushdb"] }"#, #""plainSetWindow": "1s""#,
    ])
    let redis = try #require(world.redis)
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("Clients")
    let built = try TemporaryFolder()
    let program = try Self.program(folder.appendingPathComponent(script).path, built: built)
    func run(_ socket: String) throws -> Finished {
      try TestSupport.run(
        program + [socket, world.database],
        environment: ["NODE_PATH": "/usr/share/nodejs", "PYTHONDONTWRITEBYTECODE": "1"])
    }
    // The script itself is right: it finds all of this in Redis.
    try redis.cli("SET", world.key("user:1"), "ada")
    let direct = try run(redis.socket)
    try #require(direct.exit == .code(0), "in Redis itself: \(direct.output)\(direct.errors)")
    try redis.cli("FLUSHALL")
    let a = try world.sidecar()
    try warm(world.key("user:1"), "ada", a)
    let done = try run(a.socket)
    #expect(done.exit == .code(0), "\(done.output)\(done.errors)")
  }

  /// What runs a script; one in Go or C is compiled into `built`.
  private static func program(_ script: String, built: TemporaryFolder) throws -> [String] {
    let client = built.file("client")
    let compiler: [String]
    switch script.split(separator: ".").last {
    case "py": return [python ?? "python3", script]
    case "rb": return ["ruby", script]
    case "php": return ["php", script]
    case "pl": return ["perl", script]
    case "js": return ["node", script]
    case "lua": return ["lua5.1", script]
    case "go": compiler = ["go", "build", "-o", client, script]
    case "c": compiler = ["cc", "-Wall", "-Werror", "-o", client, script, "-lhiredis"]
    default: return ["bash", script]
    }
    // Debian keeps the sources of Go's packages where GOPATH says, without modules.
    let done = try TestSupport.run(
      compiler,
      environment: [
        "GOPATH": "/usr/share/gocode", "GO111MODULE": "off", "GOFLAGS": "", "GOCACHE": built.file("cache"),
      ])
    try #require(done.exit == .code(0), "\(done.output)\(done.errors)")
    return [client]
  }
}
