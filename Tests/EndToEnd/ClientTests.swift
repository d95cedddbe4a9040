import Foundation
import TestSupport
import Testing

/// The Python that has the libraries; nil: they are not installed.
private let python = ProcessInfo.processInfo.environment["NEARSIDE_TEST_PYTHON"]

/// Real client libraries, each by a script of `Tests/Clients` that does with its library what applications do:
/// strings, hashes, pipelines, transactions, messages, scripts, locks. `Tests/run --all` installs them.
@Suite("Client libraries", .enabled(if: python != nil))
struct ClientTests {
  private static let scripts = [
    "redis_py.py", "redis_py_async.py", "redis_py_cache.py", "coredis_client.py", "valkey_glide.py",
    "frameworks.py",
    "redis_rb.rb",
    "phpredis.php", "redis_pm.pl", "node_redis.js", "redis_lua.lua", "redis_tools.sh",
  ]

  @Test("Every library finds what it finds in Redis", arguments: scripts)
  func library(script: String) throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let folder = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
      .deletingLastPathComponent().appendingPathComponent("Clients")
    func run(_ socket: String) throws -> Finished {
      try TestSupport.run(
        Self.interpreter(script) + [folder.appendingPathComponent(script).path, socket, world.database],
        environment: ["NODE_PATH": "/usr/share/nodejs", "PYTHONDONTWRITEBYTECODE": "1"])
    }
    try warm(world.key("user:1"), "ada", a)
    // The script itself is right: it finds all of this in Redis.
    let direct = try run(redis.socket)
    try #require(direct.exit == .code(0), "in Redis itself: \(direct.output)\(direct.errors)")
    let done = try run(a.socket)
    #expect(done.exit == .code(0), "\(done.output)\(done.errors)")
  }

  private static func interpreter(_ script: String) -> [String] {
    switch script.split(separator: ".").last {
    case "py": [python ?? "python3"]
    case "rb": ["ruby"]
    case "php": ["php"]
    case "pl": ["perl"]
    case "js": ["node"]
    case "lua": ["lua5.1"]
    default: ["bash"]
    }
  }
}
