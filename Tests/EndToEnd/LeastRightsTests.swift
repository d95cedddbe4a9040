import Foundation
import TestSupport
import Testing

@Suite("The rights of deploy/redis.acl")
struct LeastRightsTests {
  private static let line: String = {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    return (try? String(contentsOf: root.appending(path: "deploy/redis.acl"), encoding: .utf8)) ?? ""
  }()

  private static let caches = #"""
    "caches": {
      "user:{id}": { "load": "SELECT name FROM users WHERE id = :id", "ttl": "1h", "stampede": { "lock": "3s" } },
      "product:{id}": {
        "tags": ["product:{id}"],
        "write": { "policy": "behind", "sql": "UPDATE products SET name = :value WHERE id = :id", "delay": "1ms" }
      }
    }
    """#

  /// A world whose Redis has that user, for the world's own namespace.
  private func world() throws -> (World, RedisServer, environment: [String: String]) {
    let world = try World(options: [Self.caches, #""journal": { "size": "64KiB" }"#])
    let redis = try #require(world.redis)
    let rules = Self.line.replacing("shop", with: world.database).split(whereSeparator: \.isWhitespace)
      .dropFirst()
    let reply = try redis.client().call(["ACL", "SETUSER"] + rules.map(String.init))
    guard reply == .ok else { throw HarnessError("ACL SETUSER: \(reply)") }
    return (world, redis, ["REDIS_URL": "unix://nearside:change-me@\(redis.socket)"])
  }

  @Test("are enough: everything works, and Redis has refused nothing")
  func enough() throws {
    let (world, redis, environment) = try world()
    let check = try world.command("check", environment: environment)
    #expect(check.exit == .code(0), "\(check.errors)")
    let (a, b) = (try world.sidecar(environment: environment), try world.sidecar(environment: environment))
    let (user, product, item) = (world.key("user:1"), world.key("product:1"), world.key("order:1:item:1"))
    try eventually("a row is loaded") { try a.get(user) == "User 1" && b.get(user) == "User 1" }
    try world.psql("UPDATE users SET name = 'new' WHERE id = 1")
    try world.settle(a, b)
    try eventually("the change is seen") { try b.get(user) == "new" }
    try warm(item, "one", a, b)
    let client = try a.client()
    #expect(
      try client.pipeline([["MULTI"], ["DEL", item], ["GET", item], ["EXEC"]])[3] == .array([1, nil]))
    try warm(item, "two", a, b)
    for command in [["KEY", item], ["PREFIX", world.key("order:")], ["TAG", "product:1"], ["ALL"]] {
      let reply = try client.call(["NEARSIDE", "INVALIDATE"] + command)
      #expect(reply.errorText == nil, "\(command): \(reply)")
    }
    try eventually("a value is written behind") {
      try client.call("SET", product, "written") == .ok
        && world.psql("SELECT name FROM products WHERE id = 1") == "written"
    }
    #expect(try client.call("SUBSCRIBE", "nearside:\(world.database)").errorText == nil)
    // The generation changes hands, and what Redis forgets is begun anew.
    a.kill()
    try world.psql("UPDATE users SET name = 'newer' WHERE id = 1")
    try world.settle(b)
    try eventually("the other one has taken over") { try b.get(user) == "newer" }
    try redis.cli("SCRIPT", "FLUSH")
    try redis.cli("DEL", "nearside:{\(world.database)}:m")
    try b.waitUntilFollowing()
    try eventually("a row is loaded again") { try b.get(user) == "newer" }
    #expect(try redis.client().call("ACL", "LOG") == .array([]))
  }

  @Test(
    "are needed, each of them that nearside check asks for",
    arguments: [
      "script|load", "eval", "evalsha", "hmget", "hget", "hset", "hdel", "hincrby", "unlink", "time", "xadd",
      "xread",
      "xlen", "xtrim", "memory|usage", "dump", "pexpiretime", "exists", "pexpire", "publish", "scan", "get",
      "set", "pttl", "del",
      "xrange",
      "xdel", "hexists",
    ])
  func needed(right: String) throws {
    let (world, redis, environment) = try world()
    try redis.cli("ACL", "SETUSER", "nearside", "-" + right)
    let check = try world.command("check", environment: environment)
    #expect(check.exit == .code(1))
    let name = right.uppercased().replacing("|", with: " ")
    #expect(check.errors.contains(name), "\(check.errors)")
  }

  @Test("A password that Redis does not accept is told apart from a missing one, and never shown")
  func passwords() throws {
    let (world, redis, environment) = try world()
    let sidecar = try world.sidecar(environment: environment)
    func expect(_ part: String) throws {
      try redis.cli("CLIENT", "KILL", "USER", "nearside")
      let client = try sidecar.client()
      try eventually("clients are told: \(part)") {
        try client.call("GET", "other")
      } until: {
        $0.errorText?.contains(part) == true
      }
    }
    try redis.cli("ACL", "SETUSER", "nearside", "resetpass", ">other")
    try expect("unreachable (Redis does not accept the configured user name and password)")
    try redis.cli("ACL", "SETUSER", "nearside", ">change-me", "-script|load")
    try expect("nearside check lists the permissions that its user lacks")
    try redis.cli("ACL", "SETUSER", "nearside", "+script|load")
    try eventually("it is back") { try sidecar.client().call("GET", world.key("user:2")) == "User 2" }
    #expect(!sidecar.log.contains("change-me"))
    let wrong = try world.command(
      "check", environment: ["REDIS_URL": "unix://nearside:hunter2@\(redis.socket)"])
    #expect(wrong.exit == .code(1))
    #expect(wrong.errors.contains("does not accept the configured user name and password"))
    #expect(!wrong.errors.contains("hunter2"))
  }
}
