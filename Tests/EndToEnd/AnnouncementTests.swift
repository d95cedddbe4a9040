import Glibc
import TestSupport
import Testing

@Suite("What applications publish on a channel")
struct AnnouncementTests {
  private static let options = [
    #""subscribe": ["changes", "more-changes"]"#,
    #""caches": { "user:{id}": { "tags": ["tenant:{id}"] } }"#,
  ]

  private func world() throws -> World {
    try World(
      tables: #"{ "users": { "keys": ["user:{id}", "list:{id}:*"], "tags": ["tenant:{id}"] } }"#,
      options: Self.options)
  }

  /// Publishes to both sidecars.
  private func publish(_ world: World, _ message: String, on channel: String = "changes") throws {
    #expect(try #require(world.redis).client().call("PUBLISH", channel, message) == 2)
  }

  private func listening(_ world: World) throws -> (Sidecar, Sidecar) {
    let (a, b) = (try world.sidecar(), try world.sidecar())
    let redis = try #require(world.redis).client()
    try eventually("both listen") {
      try redis.call("PUBLISH", "changes", "nothing of ours")
    } until: {
      $0 == 2
    }
    return (a, b)
  }

  @Test("A key, a list, a prefix and a tag are cleared in Redis and on every host, as by a DEL")
  func forms() throws {
    let world = try world()
    let (a, b) = try listening(world)
    let redis = try #require(world.redis).client()
    let (user, other, page) = (world.key("user:1"), world.key("user:2"), world.key("list:1:2"))
    func gone(_ message: String, _ keys: [String], on channel: String = "changes") throws {
      for key in keys { try warm(key, "x", a, b) }
      try publish(world, message, on: channel)
      for key in keys {
        try eventually("\(key) is gone") {
          try a.get(key) == nil && b.get(key) == nil && redis.call("EXISTS", key) == 0
        }
      }
    }
    try gone(user, [user])
    try gone(#"["\#(user)","\#(other)"]"#, [user, other], on: "more-changes")
    try gone(#"{"prefixes":["\#(world.key("list:1:*"))"]}"#, [page])
    try gone(#"{"keys":["\#(other)"],"tags":["tenant:1"]}"#, [user, other])
  }

  @Test("A lease from before the message fills nothing")
  func fences() throws {
    let world = try world()
    let (a, b) = try listening(world)
    let key = world.key("user:1")
    let client = try b.client()
    var token = ""
    try eventually("there is a lease") {
      token = try client.call("NEARSIDE", "LEASE", key).elements?.last?.text ?? ""
      return !token.isEmpty
    }
    let before = try a.count("announcements")
    try publish(world, key)
    try eventually("both have heard") { try a.count("announcements") > before }
    try eventually("the fence is up") { try client.call("NEARSIDE", "FILL", key, token, "old") == 0 }
    #expect(try client.call("GET", key) == nil)
  }

  @Test("More keys than are kept cost a new generation, which is asked for until there is one")
  func tooMany() throws {
    let world = try world()
    let (a, b) = try listening(world)
    let redis = try #require(world.redis).client()
    let key = world.key("user:1")
    try warm(key, "x", a, b)
    let before = try a.status()["generation"]
    // No tailer hears of it as long as it stands still.
    let tailer = try a.status()["role"] == "tailer" ? a : b
    tailer.signal(SIGSTOP)
    let names = (0..<51_000).map { "\"\(world.key("x\($0)"))\"" }
    #expect(try redis.call("PUBLISH", "changes", "[" + names.joined(separator: ",") + "]") == 2)
    let other = tailer === a ? b : a
    try eventually("the other has heard") { try other.count("near_drops") > 0 }
    // The request is lost; it is made again.
    try redis.call("HDEL", "nearside:{\(world.database)}:m", "req")
    tailer.signal(SIGCONT)
    try eventually("there is a new generation", within: .seconds(30)) {
      try a.status()["generation"] != before && b.status()["generation"] != before
    }
    try world.settle(a, b)
    #expect(try a.get(key) == nil && b.get(key) == nil)
    // Each of the two may have got one; then nobody asks any more.
    var last = before
    try eventually("no further generation begins", within: .seconds(20), every: .milliseconds(1500)) {
      let found = try a.status()["generation"]
      defer { last = found }
      return found == last
    }
  }

  @Test("A malformed message, and keys of somebody else, are counted and change nothing")
  func malformed() throws {
    let world = try world()
    let (a, b) = try listening(world)
    let redis = try #require(world.redis).client()
    let key = world.key("user:1")
    try warm(key, "x", a, b)
    try redis.call("SET", "elsewhere", "1")
    let before = try a.count("announcements_malformed")
    for message in ["{", "[1]", "elsewhere", #"["elsewhere"]"#, #"{"tags":["unknown"]}"#] {
      try publish(world, message)
    }
    try eventually("all were counted") { try a.count("announcements_malformed") == before + 5 }
    #expect(try a.get(key) == "x" && b.get(key) == "x")
    #expect(try redis.call("GET", "elsewhere") == "1")
    #expect(try a.client().call("PING") == .simple("PONG"))
  }
}
