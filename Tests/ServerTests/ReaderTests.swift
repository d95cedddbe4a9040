import Configuration
import Foundation
import Invalidation
import Synchronization
import TestSupport
import Testing

@testable import Server

/// Clients that other threads answer: what they see must be what the event loop itself would have said.
@Suite("Readers")
struct ReaderTests {
  private func start(
    threads: Int = 4, bound: Duration = .seconds(3600),
    near: NearSettings = NearSettings(size: 64 << 20, maxEntry: 1 << 20, ttl: nil)
  ) throws -> EmbeddedSidecar {
    let sidecar = try EmbeddedSidecar(bound: bound, near: near, threads: threads)
    return sidecar
  }

  private func status(_ sidecar: EmbeddedSidecar, _ name: String) throws -> Int {
    let text = try sidecar.client().call("NEARSIDE", "STATUS").text ?? ""
    let line = text.split(separator: "\n").first { $0.hasPrefix(name + ":") }
    return line.flatMap { Int($0.dropFirst(name.count + 1)) } ?? -1
  }

  private func store(_ key: String, _ value: String, _ sidecar: EmbeddedSidecar, more: [String] = []) throws {
    let client = try sidecar.client()
    try eventually("\(key) is stored") {
      let lease = try client.call("NEARSIDE", "LEASE", key)
      if let token = lease.elements?.last?.text {
        try client.call(["NEARSIDE", "FILL", key, token, value] + more)
      }
      return try client.call("GET", key) == .bulk(value)
    }
  }

  /// Has the client read until it is lent. The key must be near.
  private func lend(_ client: RESPClient, _ key: String, _ value: String, _ sidecar: EmbeddedSidecar) throws {
    let before = try status(sidecar, "clients_lent")
    try eventually("the client is lent") {
      let replies = try client.pipeline([[String]](repeating: ["GET", key], count: 128))
      #expect(replies.allSatisfy { $0 == .bulk(value) })
      return try status(sidecar, "clients_lent") > before
    }
  }

  @Test("evidence that was given up is not that of what came after it")
  func evidence() throws {
    let board = ReaderBoard()
    #expect(board.evidence == nil)
    board.publish(Instant(nanoseconds: 5), earlyLead: 0)
    let first = try #require(board.evidence)
    #expect(board.holds(first))
    board.publish(Instant(nanoseconds: 6), earlyLead: 0)
    #expect(board.holds(first))
    board.publish(nil, earlyLead: 0)
    board.publish(Instant(nanoseconds: 7), earlyLead: 0)
    #expect(!board.holds(first))
    let second = try #require(board.evidence)
    board.publish(Instant(nanoseconds: 3), earlyLead: 0)
    #expect(!board.holds(second))
  }

  @Test("pipelines of all kinds are answered in order while clients go to readers and come back")
  func order() throws {
    let sidecar = try start()
    defer { sidecar.stop() }
    var tail = Tail(sidecar)
    try tail.begin()
    for key in 0..<10 { try store("user:hot\(key)", "value \(key)", sidecar) }
    let most = Mutex(0)
    let problems = Mutex<[String]>([])
    let group = DispatchGroup()
    let isOver = Atomic(0)
    for number in 0..<3 {
      group.enter()
      Thread.detachNewThread {
        defer {
          isOver.add(1, ordering: .relaxed)
          group.leave()
        }
        do {
          let client = try sidecar.client()
          var random = Seeded(UInt64(number))
          var last = -1
          for round in 0..<150 {
            var commands: [[String]] = []
            var expected: [(Reply) -> Bool] = []
            // Long rows of hits, with something else in between now and then.
            let odds = [3, 40, 4000][Int.random(in: 0..<3, using: &random)]
            for step in 0..<Int.random(in: 1..<400, using: &random) {
              let id = round * 1000 + step
              let hot = Int.random(in: 0..<10, using: &random)
              switch Int.random(in: 0..<odds, using: &random) {
              case 0:
                commands.append(["ECHO", "\(id)"])
                expected.append { $0 == .bulk("\(id)") }
              case 1:
                commands.append(["SET", "user:own\(number)", "\(id)"])
                expected.append { $0 == .ok }
                last = id
              case 2:
                commands.append(["GET", "user:own\(number)"])
                let newest = last
                expected.append { $0 == nil || $0 == .bulk("\(newest)") }
              case 3:
                commands.append(["GET", "user:none\(number)"])
                expected.append { $0 == nil }
              case 4...5:
                commands.append(["mget", "user:hot\(hot)", "user:hot0"])
                expected.append { $0 == .array([.bulk("value \(hot)"), "value 0"]) }
              default:
                commands.append(["GET", "user:hot\(hot)"])
                expected.append { $0 == .bulk("value \(hot)") }
              }
            }
            let replies = try client.pipeline(commands)
            for (place, reply) in replies.enumerated() where !expected[place](reply) {
              problems.withLock { $0.append("\(commands[place]) was answered \(reply)") }
            }
          }
        } catch {
          problems.withLock { $0.append("\(error)") }
        }
      }
    }
    while isOver.load(ordering: .relaxed) < 3 {
      let lent = try status(sidecar, "clients_lent")
      most.withLock { $0 = max($0, lent) }
    }
    group.wait()
    #expect(problems.withLock { $0.prefix(3) } == [])
    #expect(most.withLock { $0 } > 0)
    #expect(try status(sidecar, "threads") == 4)
  }

  @Test("what has been invalidated is not read by a client that is lent, and a write of its own is")
  func invalidation() throws {
    let sidecar = try start(threads: 2)
    defer { sidecar.stop() }
    var tail = Tail(sidecar)
    try tail.begin()
    for round in 0..<10 {
      let client = try sidecar.client()
      try store("user:1", "a\(round)", sidecar)
      try lend(client, "user:1", "a\(round)", sidecar)
      try tail.change("user:1")
      #expect(try client.call("GET", "user:1") == nil)
      try store("user:1", "b\(round)", sidecar)
      try eventually("it is lent again") {
        for reply in try client.pipeline([[String]](repeating: ["GET", "user:1"], count: 256)) {
          #expect(reply == .bulk("b\(round)"))
        }
        return try status(sidecar, "clients_lent") > 0
      }
      #expect(try client.call("DEL", "user:1") == 1)
      #expect(try client.call("GET", "user:1") == nil)
    }
  }

  @Test("what another client has written is what a client that is lent reads")
  func writesOfOthers() throws {
    let sidecar = try start(threads: 2)
    defer { sidecar.stop() }
    var tail = Tail(sidecar)
    try tail.begin()
    let (reader, writer) = (try sidecar.client(), try sidecar.client())
    try store("user:1", "0", sidecar)
    try lend(reader, "user:1", "0", sidecar)
    for round in 1...300 {
      #expect(try writer.call("SET", "user:1", "\(round)") == .ok)
      let seen = try reader.call("GET", "user:1")
      #expect(seen == .bulk("\(round)") || seen == nil)
    }
  }

  @Test("a value ends for a client that is lent when it ends")
  func expiry() throws {
    let sidecar = try start()
    defer { sidecar.stop() }
    var tail = Tail(sidecar)
    try tail.begin()
    let client = try sidecar.client()
    let clock = ContinuousClock()
    try store("user:1", "v", sidecar, more: ["PX", "1500"])
    let latest = clock.now + .milliseconds(1500)
    try lend(client, "user:1", "v", sidecar)
    try eventually("it has ended", within: .seconds(10)) {
      let asked = clock.now
      guard let value = try client.call("GET", "user:1").text else { return true }
      #expect(value == "v" && asked < latest)
      return false
    }
  }

  @Test("without news from the log a client that is lent gets no value beyond the bound")
  func bound() throws {
    let bound = Duration.milliseconds(700)
    let sidecar = try start(bound: bound)
    defer { sidecar.stop() }
    var tail = Tail(sidecar)
    try tail.begin()
    let client = try sidecar.client()
    let clock = ContinuousClock()
    for _ in 0..<3 {
      var heard = clock.now
      try eventually("a value is shown, and the client lent") {
        try tail.beat()
        try client.call("GET", "user:1")
        try client.call("SET", "user:1", "v")
        try tail.beat()
        heard = clock.now
        let replies = try client.pipeline([[String]](repeating: ["GET", "user:1"], count: 2000))
        guard replies.allSatisfy({ $0 == "v" }) else { return false }
        return try status(sidecar, "clients_lent") == 1
      }
      try eventually("it is hidden", within: .seconds(20)) {
        let asked = clock.now
        guard try client.call("GET", "user:1") == "v" else { return true }
        // The last beat was older than `heard`.
        #expect(asked < heard + bound)
        return false
      }
    }
  }

  @Test("CLIENT LIST shows a client that is lent, CLIENT KILL ends it, and its place is free again")
  func kill() throws {
    let sidecar = try start()
    defer { sidecar.stop() }
    var tail = Tail(sidecar)
    try tail.begin()
    try store("user:1", "v", sidecar)
    let (client, other) = (try sidecar.client(), try sidecar.client())
    try client.call("CLIENT", "SETNAME", "lent")
    let id = try #require(try client.call("CLIENT", "ID").integerValue)
    try lend(client, "user:1", "v", sidecar)
    #expect(try other.call("CLIENT", "LIST").text?.contains("id=\(id) ") == true)
    #expect(try other.call("CLIENT", "KILL", "ID", "\(id)") == 1)
    #expect(try other.call("CLIENT", "LIST").text?.contains("id=\(id) ") == false)
    #expect(throws: HarnessError.self) { try client.call("GET", "user:1") }
    #expect(try status(sidecar, "clients_lent") == 0)
    // Somebody else gets the slot and the descriptor.
    for _ in 0..<20 {
      let next = try sidecar.client()
      try lend(next, "user:1", "v", sidecar)
      #expect(try next.call("PING") == .simple("PONG"))
    }
  }

  @Test("a client that is lent and goes away is forgotten")
  func leaves() throws {
    let sidecar = try start()
    defer { sidecar.stop() }
    var tail = Tail(sidecar)
    try tail.begin()
    try store("user:1", "v", sidecar)
    do {
      let client = try sidecar.client()
      try lend(client, "user:1", "v", sidecar)
      client.finishSending()
    }
    try eventually("it is gone") { try status(sidecar, "clients") == 1 }
    #expect(try status(sidecar, "clients_lent") == 0)
  }

  @Test("a client that does not read gets all its answers in the end, and blocks nobody")
  func doesNotRead() throws {
    let sidecar = try start(threads: 2)
    defer { sidecar.stop() }
    var tail = Tail(sidecar)
    try tail.begin()
    let long = String(repeating: "x", count: 100_000)
    try store("user:long", long, sidecar)
    try store("user:1", "v", sidecar)
    let client = try sidecar.client()
    try lend(client, "user:1", "v", sidecar)
    for _ in 0..<500 { try client.send("GET", "user:long") }
    try eventually("the reader has given it back") { try status(sidecar, "clients_lent") == 0 }
    let other = try sidecar.client()
    try lend(other, "user:1", "v", sidecar)
    for _ in 0..<500 { #expect(try client.receive() == .bulk(long)) }
    #expect(try client.call("GET", "user:1") == "v")
  }

  @Test("commands that come in pieces, empty lines and broken ones are what they are for the event loop")
  func pieces() throws {
    let sidecar = try start()
    defer { sidecar.stop() }
    var tail = Tail(sidecar)
    try tail.begin()
    try store("user:1", "v", sidecar)
    let client = try sidecar.client()
    try lend(client, "user:1", "v", sidecar)
    let get = RESPClient.encode(["GET", "user:1"])
    // More than one read takes.
    let many = try client.pipeline([[String]](repeating: ["GET", "user:1"], count: 20_000))
    #expect(many.allSatisfy { $0 == "v" })
    for cut in 1..<get.count {
      try client.send(raw: get + get[..<cut])
      #expect(try client.receive() == "v")
      try client.send(raw: get[cut...] + Array("\r\nget user:1\r\n\r\n".utf8))
      #expect(try client.receive() == "v")
      #expect(try client.receive() == "v")
    }
    let last = try sidecar.client()
    try lend(last, "user:1", "v", sidecar)
    try last.send(raw: get + get + Array("*1\r\n+x\r\n".utf8) + get)
    #expect(try last.receive() == "v")
    #expect(try last.receive() == "v")
    #expect(try last.receive().errorText == "ERR Protocol error: expected '$', got '+'")
    #expect(throws: HarnessError.self) { try last.receive() }
  }

  @Test("a loop that is stopped takes its clients back and ends, whatever they are doing")
  func stops() throws {
    for _ in 0..<5 {
      let sidecar = try start()
      var tail = Tail(sidecar)
      try tail.begin()
      try store("user:1", "v", sidecar)
      let isOver = Atomic(false)
      let ended = DispatchGroup()
      let others = Atomic(0)
      for _ in 0..<6 {
        ended.enter()
        Thread.detachNewThread {
          defer { ended.leave() }
          guard let client = try? sidecar.client() else { return }
          while !isOver.load(ordering: .relaxed) {
            guard let replies = try? client.pipeline([[String]](repeating: ["GET", "user:1"], count: 50))
            else {
              return
            }
            if !replies.allSatisfy({ $0 == "v" }) { others.add(1, ordering: .relaxed) }
          }
        }
      }
      try eventually("some are lent") { try status(sidecar, "clients_lent") >= 2 }
      sidecar.stop()
      isOver.store(true, ordering: .relaxed)
      ended.wait()
      #expect(others.load(ordering: .relaxed) == 0)
    }
  }

  @Test("with one thread nobody is lent")
  func one() throws {
    let sidecar = try start(threads: 1)
    defer { sidecar.stop() }
    var tail = Tail(sidecar)
    try tail.begin()
    try store("user:1", "v", sidecar)
    let client = try sidecar.client()
    let replies = try client.pipeline([[String]](repeating: ["GET", "user:1"], count: 5000))
    #expect(replies.allSatisfy { $0 == "v" })
    #expect(try status(sidecar, "threads") == 1)
    #expect(try status(sidecar, "clients_lent") == 0)
    #expect(try status(sidecar, "near_hits") >= 5000)
  }

  @Test("clients are spread over the threads, and those that say nothing for a while come back")
  func spread() throws {
    let sidecar = try start(threads: 3)
    defer { sidecar.stop() }
    var tail = Tail(sidecar)
    try tail.begin()
    try store("user:1", "v", sidecar)
    let clients = try (0..<12).map { _ in try sidecar.client() }
    try eventually("two of three are lent") {
      for client in clients {
        let replies = try client.pipeline([[String]](repeating: ["GET", "user:1"], count: 64))
        #expect(replies.allSatisfy { $0 == "v" })
      }
      return (6...9).contains(try status(sidecar, "clients_lent"))
    }
    let hits = try status(sidecar, "near_hits")
    for client in clients { try client.call("GET", "user:1") }
    #expect(try status(sidecar, "near_hits") == hits + 12)
    try eventually("all are back", within: .seconds(20)) { try status(sidecar, "clients_lent") == 0 }
  }
}
