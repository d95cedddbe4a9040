import Synchronization
import TestSupport
import Testing

@Suite("A value read before a change is not stored after it")
struct LeaseTests {
  private func lease(_ sidecar: Sidecar, _ key: String) throws -> String {
    let reply = try sidecar.client().call("NEARSIDE", "LEASE", key)
    guard let elements = reply.elements, elements.count == 2, elements[0] == nil, let token = elements[1].text
    else { throw HarnessError("LEASE \(key): \(reply)") }
    return token
  }

  @Test("A SET after an invalidation that the miss did not know of is answered OK, counted and not stored")
  func race() throws {
    let world = try World()
    let a = try world.sidecar()
    let b = try world.sidecar()
    let key = world.key("user:42")
    let client = try a.client()
    let refused = try a.count("fills_refused")
    #expect(try client.call("GET", key) == nil)
    // The application has read the row; now it changes.
    try world.psql("UPDATE users SET name = 'new' WHERE id = 42")
    try world.settle(a, b)
    #expect(try client.call("SET", key, "old", "EX", "600") == .ok)
    try expectGone(key, world, a, b)
    #expect(try a.count("fills_refused") == refused + 1)
    // What another flow reads afterwards and stores with its own lease counts.
    try a.store(key, "new")
    #expect(try client.call("GET", key) == "new")
    #expect(try b.get(key) == "new")
  }

  @Test("A SET after a miss is stored, in each of its forms")
  func plainSet() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let client = try a.client()
    let forms: [([String], ttl: ClosedRange<Int64>)] = [
      (["SET", "KEY", "v"], -1 ... -1), (["SET", "KEY", "v", "EX", "100"], 98...100),
      (["SET", "KEY", "v", "PX", "100000", "NX"], 98...100), (["SETEX", "KEY", "100", "v"], 98...100),
      (["PSETEX", "KEY", "100000", "v"], 98...100), (["SETNX", "KEY", "v"], -1 ... -1),
      (["set", "KEY", "v", "exat", "99999999999"], 1_000_000...Int64.max),
    ]
    for (index, form) in forms.enumerated() {
      let key = world.key("user:\(index + 1)")
      #expect(try client.call("GET", key) == nil)
      let reply = try client.call(form.0.map { $0 == "KEY" ? key : $0 })
      #expect(reply == .ok || reply == 1, "\(form.0)")
      #expect(try redis.cli("GET", key) == "v", "\(form.0)")
      #expect(form.ttl.contains(try redis.client().call("TTL", key).integerValue ?? -9), "\(form.0)")
      #expect(try client.call("GET", key) == "v")
      #expect(try client.call("SET", key, "other", "NX") == nil)
      #expect(try client.call("SET", key, "w", "XX", "GET") == "v")
      #expect(try client.call("GET", key) == "w")
    }
  }

  @Test("NEARSIDE LEASE and FILL store exactly as long as nothing happened in between")
  func tokens() throws {
    let world = try World()
    let redis = try #require(world.redis)
    let a = try world.sidecar()
    let b = try world.sidecar()
    let key = world.key("user:1")
    let client = try a.client()
    let first = try lease(a, key)
    #expect(try client.call("NEARSIDE", "FILL", key, first, "v", "PX", "60000") == 1)
    #expect(try client.call("NEARSIDE", "LEASE", key) == .array(["v", nil]))
    #expect(try b.client().call("NEARSIDE", "LEASE", key) == .array(["v", nil]))
    #expect((50_000...60_000).contains(try redis.client().call("PTTL", key).integerValue ?? 0))

    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    try world.settle(a, b)
    #expect(try client.call("NEARSIDE", "FILL", key, first, "old") == 0)
    try expectGone(key, world, a, b)

    // A change of another row is no reason to refuse.
    let second = try eventuallyLease(a, key)
    try world.psql("UPDATE users SET name = 'x' WHERE id = 2")
    try world.settle(a, b)
    #expect(try client.call("NEARSIDE", "FILL", key, second, "w") == 1)

    for wrong in [["user:1", "garbage", "v"], ["lock:x", second, "v"]] {
      let reply = try client.call(["NEARSIDE", "FILL", world.key(wrong[0])] + wrong.dropFirst())
      #expect(reply.errorText?.hasPrefix("ERR") == true, "\(wrong): \(reply)")
    }
    #expect(try client.call("NEARSIDE", "LEASE", world.key("lock:x")).errorText?.contains("mapping") == true)
    #expect(try client.call("NEARSIDE", "FILL", key, second, "v", "PX", "0").errorText != nil)
    #expect(try client.call("NEARSIDE", "FILL", key, second).errorText != nil)
  }

  private func eventuallyLease(_ sidecar: Sidecar, _ key: String) throws -> String {
    try eventually("a lease above the key's fence") {
      try sidecar.client().call("NEARSIDE", "LEASE", key).elements?.last?.text
    } until: {
      $0 != nil
    } ?? ""
  }

  @Test("A DEL through one sidecar voids the leases of all")
  func deletion() throws {
    let world = try World()
    let a = try world.sidecar()
    let b = try world.sidecar()
    let key = world.key("user:1")
    for command in [
      ["DEL", key], ["UNLINK", key], ["GETDEL", key], ["NEARSIDE", "INVALIDATE", "KEY", key],
    ] {
      let token = try lease(a, key)
      #expect(try b.client().call(command).errorText == nil)
      #expect(try a.client().call("NEARSIDE", "FILL", key, token, "old") == 0, "\(command)")
      try expectGone(key, world, a, b)
    }
  }

  @Test("A lease from before a new generation is worth nothing")
  func generation() throws {
    let world = try World()
    let a = try world.sidecar()
    let token = try lease(a, world.key("product:1"))
    let before = try a.status()["generation"]
    try world.psql("TRUNCATE users")
    try world.settle(a)
    try eventually("a new generation") { try a.status()["generation"] != before }
    #expect(try a.client().call("NEARSIDE", "FILL", world.key("product:1"), token, "old") == 0)
    try expectGone(world.key("product:1"), world, a)
  }

  @Test("plainSet off stores no SET without a token; tokens still count")
  func off() throws {
    let world = try World(options: [#""caches": { "user:{id}": { "plainSet": "off" } }"#])
    let a = try world.sidecar()
    let client = try a.client()
    #expect(try client.call("GET", world.key("user:1")) == nil)
    #expect(try client.call("SET", world.key("user:1"), "v") == .ok)
    try expectGone(world.key("user:1"), world, a)
    try a.store(world.key("user:1"), "v")
    #expect(try client.call("GET", world.key("product:1")) == nil)
    #expect(try client.call("SET", world.key("product:1"), "v") == .ok)
    #expect(try client.call("GET", world.key("product:1")) == "v")
  }

  @Test("A SET without a miss counts as read one window ago")
  func withoutMiss() throws {
    let world = try World(options: [#""plainSetWindow": "3s""#])
    let a = try world.sidecar()
    let client = try a.client()
    let key = world.key("user:1")
    sleep(.milliseconds(3300))
    #expect(try client.call("SET", key, "v") == .ok)
    #expect(try client.call("GET", key) == "v")
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    try world.settle(a)
    #expect(try client.call("SET", key, "old") == .ok)
    #expect(try world.redis?.cli("EXISTS", key) == "0")
  }

  @Test("Many clients that read, load and store while rows change never see an old value stay")
  func stress() throws {
    let world = try World()
    let a = try world.sidecar()
    let b = try world.sidecar()
    // Cache-aside readers of ten rows; the loader is PostgreSQL itself, through psql.
    let stop = Atomic<Bool>(false)
    let failures = Mutex<[String]>([])
    withThreads(
      4,
      { number in
        do {
          let client = try (number % 2 == 0 ? a : b).client()
          var turn = number
          while !stop.load(ordering: .relaxed) {
            turn += 1
            let id = turn % 10 + 1
            let key = world.key("product:\(id)")
            guard try client.call("GET", key) == nil else { continue }
            let value = try world.psql("SELECT stock FROM products WHERE id = \(id)")
            try client.call("SET", key, value, "EX", "600")
          }
        } catch {
          failures.withLock { $0.append("\(error)") }
        }
      },
      while: {
        do {
          for turn in 1...60 {
            try world.psql(
              "UPDATE products SET stock = \(turn) WHERE id IN (\(turn % 10 + 1), \(turn % 7 + 1))")
          }
        } catch {
          failures.withLock { $0.append("\(error)") }
        }
        stop.store(true, ordering: .relaxed)
      })
    #expect(failures.withLock { $0 } == [])
    try world.settle(a, b)
    for id in 1...10 {
      let truth = try world.psql("SELECT stock FROM products WHERE id = \(id)")
      for (name, reply) in [
        ("A", try a.get(world.key("product:\(id)"))), ("B", try b.get(world.key("product:\(id)"))),
        ("Redis", try world.redis?.client().call("GET", world.key("product:\(id)")) ?? nil),
      ] {
        #expect(reply == nil || reply == .bulk(truth), "product \(id) in \(name): \(reply), not \(truth)")
      }
    }
  }
}
