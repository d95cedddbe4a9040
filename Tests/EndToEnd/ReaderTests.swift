import Foundation
import Synchronization
import TestSupport
import Testing

/// Clients that other threads answer (`threads`), with real servers.
@Suite("Readers with real servers")
struct EndToEndReaderTests {
  private static let threads = #""threads": 4"#

  private func lend(_ client: RESPClient, _ key: String, _ sidecar: Sidecar) throws {
    let before = try sidecar.count("clients_lent")
    try eventually("the client is lent") {
      _ = try client.pipeline([[String]](repeating: ["GET", key], count: 256))
      return try sidecar.count("clients_lent") > before
    }
  }

  @Test("after NEARSIDE WAIT has answered one client, another that is lent reads nothing older")
  func waits() throws {
    let world = try World(options: [Self.threads])
    let a = try world.sidecar()
    let (key, other) = (world.key("user:1"), world.key("user:2"))
    try a.store(other, "stays")
    let waiter = try a.client()
    for round in 0..<8 {
      try a.store(key, "before \(round)")
      let reader = try a.client()
      try lend(reader, key, a)
      let position = try world.psql(
        "UPDATE users SET name = 'n\(round)' WHERE id = 1; SELECT pg_current_wal_insert_lsn()")
      let lsn = try #require(position.split(separator: "\n").last.map(String.init))
      #expect(try waiter.call("NEARSIDE", "WAIT", lsn, "10000") == 1)
      #expect(try reader.call("GET", key) == nil)
      #expect(try reader.call("GET", other) == "stays")
    }
  }

  @Test("CLIENT PAUSE holds a client that is lent, too")
  func paused() throws {
    let world = try World(options: [Self.threads, #""commands": { "allow": ["client"] }"#])
    let sidecar = try world.sidecar()
    let key = world.key("user:2")
    try sidecar.store(key, "stays")
    let reader = try sidecar.client()
    try lend(reader, key, sidecar)
    let clock = ContinuousClock()
    let began = clock.now
    #expect(try sidecar.client().call("CLIENT", "PAUSE", "1500") == .ok)
    #expect(try reader.call("GET", key) == "stays")
    // The pause began after that moment, and nothing is answered before its end.
    #expect(clock.now - began >= .milliseconds(1500))
  }

  @Test("a change is seen by every client that is lent, whichever thread answers it, and none sees it undone")
  func changes() throws {
    let world = try World(options: [Self.threads])
    let a = try world.sidecar()
    let b = try world.sidecar()
    let key = world.key("product:1")
    try warm(key, "0", a, b)
    let isOver = Atomic(false)
    let wrong = Mutex<[String]>([])
    try withThreads(6) { number in
      do {
        let client = try (number % 2 == 0 ? a : b).client()
        var newest = 0
        while !isOver.load(ordering: .relaxed) {
          for reply in try client.pipeline([[String]](repeating: ["GET", key], count: 100)) {
            guard let text = reply.text else { continue }
            let value = Int(text) ?? -1
            if value < newest { wrong.withLock { $0.append("\(value) after \(newest)") } }
            newest = max(newest, value)
          }
        }
      } catch {
        wrong.withLock { $0.append("\(error)") }
      }
    } while: {
      defer { isOver.store(true, ordering: .relaxed) }
      try eventually("some clients are lent") { try a.count("clients_lent") > 0 }
      for value in 1...15 {
        try world.psql("UPDATE products SET stock = \(value) WHERE id = 1")
        try world.settle(a, b)
        #expect(try a.get(key) == nil || a.get(key) == .bulk("\(value)"))
        try warm(key, "\(value)", b, a)
      }
    }
    #expect(wrong.withLock { $0.prefix(3) } == [])
  }

  @Test("the values of one MGET were there at one moment, whichever thread answers it")
  func together() throws {
    let world = try World(options: [Self.threads])
    let sidecar = try world.sidecar(environment: ["NEARSIDE_LEND_AFTER": "1"])
    let keys = [world.key("product:1"), world.key("product:2")]
    for key in keys { try warm(key, "0", sidecar) }
    // Between the two there is much to copy, so that a change falls between them now and then.
    let between = world.key("user:2")
    try warm(between, String(repeating: "x", count: 100), sidecar)
    let command = ["MGET", keys[0]] + [String](repeating: between, count: 60) + [keys[1]]
    let isOver = Atomic(false)
    let wrong = Mutex<[String]>([])
    let hits = Atomic(0)
    try withThreads(4) { _ in
      do {
        let client = try sidecar.client()
        while !isOver.load(ordering: .relaxed) {
          for reply in try client.pipeline([[String]](repeating: command, count: 10)) {
            guard case .array(let values) = reply else { throw HarnessError("\(reply)") }
            let texts = [values.first, values.last].compactMap { $0?.text }
            guard texts.count == 2 else { continue }
            hits.add(1, ordering: .relaxed)
            // The first is always stored before the second.
            if Int(texts[0])! < Int(texts[1])! { wrong.withLock { $0.append("\(texts)") } }
          }
        }
      } catch {
        wrong.withLock { $0.append("\(error)") }
      }
    } while: {
      defer { isOver.store(true, ordering: .relaxed) }
      try eventually("some clients are lent") { try sidecar.count("clients_lent") > 0 }
      let writer = try sidecar.client()
      for value in 1...2000 {
        #expect(try writer.pipeline(keys.map { ["SET", $0, "\(value)"] }) == [.ok, .ok])
      }
      try eventually("pairs were read") { hits.load(ordering: .relaxed) > 100 }
    }
    #expect(wrong.withLock { $0.prefix(3) } == [])
  }

  @Test("a prefix and a tag that are cleared are gone for clients that are lent")
  func groups() throws {
    let world = try World(
      tables: #"{ "products": ["product:{id}", "catalogue:{id}:*"], "users": { "tags": ["tenant:{id}"] } }"#,
      options: [Self.threads, #""caches": { "report:{id}:{name}": { "tags": ["tenant:{id}"] } }"#])
    let a = try world.sidecar()
    let other = try a.client()
    for (key, kind, name) in [
      (world.key("catalogue:7:page:1"), "PREFIX", world.key("catalogue:7:")),
      (world.key("report:7:sales"), "TAG", "tenant:7"),
    ] {
      try a.store(key, "v")
      let client = try a.client()
      try eventually("\(key) is near, and the client lent") {
        let replies = try client.pipeline([[String]](repeating: ["MGET", key, key], count: 128))
        guard replies.allSatisfy({ $0 == .array(["v", "v"]) }) else { return false }
        return try a.count("clients_lent") == 1
      }
      #expect(try other.call("NEARSIDE", "INVALIDATE", kind, name) == .ok)
      #expect(try client.call("GET", key) == nil)
    }
  }

  @Test("SIGTERM ends a sidecar whose clients are lent and busy; what they got was right")
  func terminates() throws {
    let world = try World(options: [Self.threads])
    let a = try world.sidecar()
    let key = world.key("user:1")
    try warm(key, "v", a)
    let isOver = Atomic(false)
    let wrong = Atomic(0)
    try withThreads(4) { _ in
      guard let client = try? a.client() else { return }
      while !isOver.load(ordering: .relaxed),
        let replies = try? client.pipeline([[String]](repeating: ["GET", key], count: 64))
      {
        if !replies.allSatisfy({ $0 == "v" }) { wrong.add(1, ordering: .relaxed) }
      }
    } while: {
      defer { isOver.store(true, ordering: .relaxed) }
      try eventually("some are lent") { try a.count("clients_lent") >= 2 }
      let asked = ContinuousClock.now
      #expect(try a.terminate() == .code(0))
      #expect(ContinuousClock.now - asked < .seconds(8))
    }
    #expect(wrong.load(ordering: .relaxed) == 0)
  }
}
