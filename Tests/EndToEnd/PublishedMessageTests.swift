import Foundation
import Glibc
import TestSupport
import Testing

/// One after the other in a cluster of their own: a transaction of another test that outlasts the making of a slot
/// costs a second generation, and a second message of one.
@Suite("The published messages", .serialized)
struct PublishedMessageTests {
  private static let postgres = Result { try PostgresServer() }

  /// One message, as documented.
  private struct Message: Decodable {
    var version: Int
    var generation: String
    var sequence: Int
    var lsn: String
    var table: String?
    var keys: [String]?
    var part: Int?
    var of: Int?
    var all: Bool?
  }

  /// A connection to Redis itself that hears the channel.
  private struct Ear {
    let client: RESPClient

    init(_ world: World) throws {
      client = try #require(world.redis).client()
      #expect(try client.call("SUBSCRIBE", "nearside:\(world.database)").elements?.first == "subscribe")
    }

    func text() throws -> String {
      let reply = try client.receive().elements ?? []
      #expect(reply.count == 3 && reply.first == "message")
      return try #require(reply.last?.text)
    }

    func next() throws -> Message { try JSONDecoder().decode(Message.self, from: Data(try text().utf8)) }

    /// Messages up to and with the first that `isLast` names.
    func all(through isLast: (Message) -> Bool) throws -> [Message] {
      var all: [Message] = []
      repeat { all.append(try next()) } while !isLast(all[all.count - 1])
      return all
    }
  }

  @Test("A message has exactly the documented form, byte for byte")
  func form() throws {
    let world = try World(postgres: Self.postgres.get())
    let ear = try Ear(world)
    let sidecar = try world.sidecar()
    let generation = try #require(try sidecar.status()["generation"])
    let first = try ear.text()
    let opening = "{\"version\":1,\"generation\":\"\(generation)\",\"sequence\":0,\"lsn\":\""
    #expect(first.hasPrefix(opening) && first.hasSuffix("\",\"all\":true}"), "\(first)")

    let before = try world.psql("SELECT pg_current_wal_insert_lsn()")
    try world.psql("UPDATE users SET email = 'new@example.com' WHERE id = 42")
    let text = try ear.text()
    let message = try JSONDecoder().decode(Message.self, from: Data(text.utf8))
    #expect(
      text == """
        {"version":1,"generation":"\(generation)","sequence":1,"lsn":"\(message.lsn)","table":"public.users",\
        "keys":["\(world.key("user:42"))","\(world.key("user:by-email:new@example.com"))",\
        "\(world.key("user:by-email:user42@example.com"))"],"part":1,"of":1}
        """)
    // The position is PostgreSQL's own, in PostgreSQL's own form, and the change lies before it.
    #expect(
      try world.psql(
        "SELECT '\(message.lsn)'::pg_lsn > '\(before)', '\(message.lsn)'::pg_lsn <= pg_current_wal_insert_lsn(), "
          + "'\(message.lsn)'::pg_lsn::text = '\(message.lsn)'") == "t|t|t")
    #expect(try sidecar.client().call("NEARSIDE", "WAIT", message.lsn, "10000") == 1)
  }

  @Test("Numbers grow by one without a gap, every change is named, each table in a message of its own")
  func gapless() throws {
    let world = try World(postgres: Self.postgres.get())
    let ear = try Ear(world)
    let sidecar = try world.sidecar()
    #expect(try ear.next().all == true)
    // 200 transactions, written by a single psql as fast as it can.
    let updates = (1...100).map {
      "UPDATE users SET name = 'x' WHERE id = \($0); UPDATE products SET stock = 1 WHERE id = \($0);"
    }
    try world.psql(updates.joined())
    try world.psql(
      "BEGIN; UPDATE users SET name = 'y' WHERE id = 1; UPDATE products SET stock = 2 WHERE id = 1; COMMIT;")
    try world.psql("DELETE FROM order_items WHERE order_id = 7")
    let last = world.key("order:7:item:1")
    let messages = try ear.all { $0.keys?.contains(last) == true }
    #expect(messages.map(\.sequence) == Array(1...messages.count), "\(sidecar.log)")
    #expect(messages.allSatisfy { $0.version == 1 && $0.generation == (try? sidecar.status()["generation"]) })
    for table in ["users", "products", "order_items"] {
      let own = messages.filter { $0.table == "public.\(table)" }.flatMap { $0.keys ?? [] }
      let kind = ["users": "user", "products": "product", "order_items": "order"][table] ?? ""
      #expect(own.allSatisfy { $0.hasPrefix(world.key(kind) + ":") }, "\(table)")
      if table != "order_items" {
        #expect(Set(own).isSuperset(of: (1...100).map { world.key("\(kind):\($0)") }), "\(table)")
      }
    }
    let positions = messages.map { Position($0.lsn) }
    #expect(positions == positions.sorted())
  }

  @Test("2500 keys of one transaction come in three messages of at most 1000, numbered part and of")
  func parts() throws {
    let world = try World(postgres: Self.postgres.get())
    let ear = try Ear(world)
    let sidecar = try world.sidecar()
    try sidecar.store(world.key("product:3500"), "none")
    #expect(try ear.next().all == true)
    try world.psql("INSERT INTO products SELECT n, 'P' FROM generate_series(1001, 3500) n")
    let messages = try (0..<3).map { _ in try ear.next() }
    #expect(messages.map(\.part) == [1, 2, 3])
    #expect(messages.map(\.of) == [3, 3, 3])
    #expect(messages.map(\.sequence) == [1, 2, 3])
    #expect(messages.map { $0.keys?.count } == [1000, 1000, 500])
    #expect(messages.allSatisfy { $0.table == "public.products" })
    #expect(Set(messages.flatMap { $0.keys ?? [] }) == Set((1001...3500).map { world.key("product:\($0)") }))
    try world.settle(sidecar)
    try expectGone(world.key("product:3500"), world, sidecar)
  }

  @Test("What an application deletes through the socket is published with table null")
  func deletion() throws {
    let world = try World(postgres: Self.postgres.get())
    let sidecar = try world.sidecar()
    let ear = try Ear(world)
    let client = try sidecar.client()
    for name in ["user:1", "user:2", "user:3", "user:4"] { try sidecar.store(world.key(name), "x") }
    try client.call("SET", "elsewhere", "x")

    func expect(_ keys: [String], of command: [String]) throws {
      #expect(try client.call(command).errorText == nil)
      let message = try ear.next()
      #expect(message.keys == keys && message.table == nil && message.all == nil, "\(command): \(message)")
      #expect(message.part == 1 && message.of == 1)
    }
    // A key that no mapping covers is nobody's business.
    #expect(try client.call("DEL", "elsewhere") == 1)
    try expect([world.key("user:1")], of: ["DEL", world.key("user:1"), "elsewhere"])
    try expect([world.key("user:2")], of: ["GETDEL", world.key("user:2")])
    try expect([world.key("user:3")], of: ["EXPIRE", world.key("user:3"), "-1"])
    try expect(
      [world.key("user:4"), world.key("user:1")], of: ["UNLINK", world.key("user:4"), world.key("user:1")])
    try expect([world.key("user:5")], of: ["NEARSIDE", "INVALIDATE", "KEY", world.key("user:5")])
  }

  @Test("Quotes, backslashes, control characters and letters of all kinds arrive as they are in the key")
  func letters() throws {
    let world = try World(postgres: Self.postgres.get())
    let ear = try Ear(world)
    let sidecar = try world.sidecar()
    #expect(try ear.next().all == true)
    let name = #"a"b'c/ä€😀"#
    try world.psql("INSERT INTO users VALUES (1000, $$\(name)$$, 'x')")
    #expect(try ear.next().keys == [world.key("user:1000"), world.key("user:by-email:\(name)")])
    #expect(try sidecar.client().call("DEL", world.key("user:by-email:\(name)")) == 0)
    #expect(try ear.next().keys == [world.key("user:by-email:\(name)")])
  }

  @Test("A new generation is announced with all, and counts from 0 again")
  func generations() throws {
    let world = try World(postgres: Self.postgres.get())
    let sidecar = try world.sidecar()
    let ear = try Ear(world)
    try world.psql("UPDATE users SET name = 'x' WHERE id = 1")
    let before = try ear.next()
    #expect(try sidecar.client().call("NEARSIDE", "INVALIDATE", "ALL") == .ok)
    let first = try ear.next()
    #expect(first.all == true && first.sequence == 0 && first.generation != before.generation)
    #expect(first.keys == nil && first.table == nil && first.part == nil)
    #expect(try sidecar.status()["generation"] == first.generation)
    try world.psql("UPDATE users SET name = 'y' WHERE id = 1")
    let second = try ear.next()
    #expect(second.sequence == 1 && second.generation == first.generation)
    try world.psql("TRUNCATE products")
    let third = try ear.all { $0.all == true }
    #expect(third.last?.sequence == 0 && third.last?.generation != first.generation)
  }

  @Test("A transaction that is rolled back, and a table without a rule, publish nothing")
  func silence() throws {
    let world = try World(
      schema: World.schema + "CREATE TABLE other (id int PRIMARY KEY);", postgres: Self.postgres.get())
    let sidecar = try world.sidecar()
    let ear = try Ear(world)
    try world.psql("INSERT INTO other VALUES (1); BEGIN; UPDATE users SET name = 'x' WHERE id = 1; ROLLBACK;")
    try world.settle(sidecar)
    try world.psql("UPDATE users SET name = 'x' WHERE id = 2")
    #expect(try ear.next().keys?.first == world.key("user:2"))
  }

  // MARK: deploy/subscriber.py

  /// Answers a test's questions about the example's cache, in the protocol that the example reads anyway.
  private static let driver = """
    import json, os, socket, sys
    sys.dont_write_bytecode = True
    sys.path.insert(0, sys.argv[1])
    import subscriber
    heard = []
    # A key of t:TENANT:... has the tag tenant:TENANT.
    tags = lambda key: ["tenant:" + key.split(":")[2]] if key.split(":")[1] == "t" else []
    cache = subscriber.Subscriber(
        sys.argv[2], sys.argv[3], heard=heard.append, tags=tags if sys.argv[5] == "tags" else None)
    cache.start()
    server = socket.socket(socket.AF_UNIX)
    server.bind(sys.argv[4] + ".new")
    server.listen()
    os.rename(sys.argv[4] + ".new", sys.argv[4])
    client, _ = server.accept()
    commands = subscriber.Replies(client, idle=lambda: None)
    tickets = {}
    while True:
        word, *rest = [w.decode() for w in commands.next()]
        if word == "GET":
            value, tickets[rest[0]] = cache.get(rest[0])
            client.sendall(b"$-1\\r\\n" if value is None else b"$%d\\r\\n%s\\r\\n" % (len(value), value.encode()))
        elif word == "PUT":
            client.sendall(b":%d\\r\\n" % cache.put(rest[0], rest[1], tickets.get(rest[0])))
        elif word == "CONNECTED":
            client.sendall(b":%d\\r\\n" % cache.connected)
        elif word == "SIZE":
            client.sendall(b":%d\\r\\n" % len(cache.cache))
        elif word == "SEQUENCE":
            client.sendall(b":%d\\r\\n" % (-1 if cache.sequence is None else cache.sequence))
    """

  /// A process with the example in it, and a connection to it.
  private final class Application {
    let process: ChildProcess
    let client: RESPClient
    private let folder: TemporaryFolder

    /// `tags`: whether it can tell the tags of its keys.
    init(_ world: World, redis: String, tags: Bool = false) throws {
      folder = try TemporaryFolder()
      let driver = try folder.write(PublishedMessageTests.driver, to: "driver.py")
      let deploy = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().appending(path: "deploy").path
      let socket = folder.file("s")
      let process = try ChildProcess([
        "python3", driver, deploy, redis, world.database, socket, tags ? "tags" : "",
      ])
      self.process = process
      client = try eventually("the example listens") {
        guard process.isRunning else { throw HarnessError("it ended: \(process.errors)") }
        return try RESPClient(socket)
      } until: { _ in
        true
      }
      try eventually("it is subscribed") { try client.call("CONNECTED") == 1 }
    }

    func fill(_ key: String, _ value: String) throws {
      #expect(try client.call("GET", key) == nil)
      #expect(try client.call("PUT", key, value) == 1)
      #expect(try client.call("GET", key) == .bulk(value))
    }
  }

  @Test("The example subscriber drops prefixes and tags, and everything for a tag that it cannot tell")
  func exampleGroups() throws {
    let world = try World(
      tables: #"{ "users": { "keys": ["user:{id}", "list:{id}:*"], "tags": ["tenant:{id}"] } }"#,
      options: [#""caches": { "t:{id}:{x}": { "tags": ["tenant:{id}"] } }"#],
      postgres: Self.postgres.get())
    let redis = try #require(world.redis)
    let sidecar = try world.sidecar()
    let knowing = try Application(world, redis: redis.socket, tags: true)
    let plain = try Application(world, redis: redis.socket)
    for application in [knowing, plain] {
      for key in ["list:1:a", "t:1:a", "list:10:a", "t:10:a"] { try application.fill(world.key(key), "x") }
      #expect(try application.client.call("GET", world.key("list:1:b")) == nil)
    }
    try world.psql("UPDATE users SET name = 'new' WHERE id = 1")
    try world.settle(sidecar)
    try eventually("it is gone") { try knowing.client.call("GET", world.key("list:1:a")) == nil }
    #expect(try knowing.client.call("GET", world.key("t:1:a")) == nil)
    #expect(try knowing.client.call("PUT", world.key("list:1:b"), "old") == 0)
    #expect(try knowing.client.call("SIZE") == 2)
    try eventually("everything is gone") { try plain.client.call("SIZE") == 0 }
  }

  @Test("The example subscriber drops what changed and nothing else, and takes no value from before a change")
  func example() throws {
    let world = try World(postgres: Self.postgres.get())
    let redis = try #require(world.redis)
    let sidecar = try world.sidecar()
    let application = try Application(world, redis: redis.socket)
    let client = application.client
    try application.fill(world.key("user:1"), "one")
    try application.fill(world.key("user:by-email:user1@example.com"), "one")
    try application.fill(world.key("product:1"), "first")
    try world.psql("UPDATE users SET email = 'new@example.com' WHERE id = 1")
    try eventually("the changed key is gone") { try client.call("GET", world.key("user:1")) == nil }
    #expect(try client.call("GET", world.key("user:by-email:user1@example.com")) == nil)
    #expect(try client.call("GET", world.key("product:1")) == "first")

    // A value that was read before the change comes after it.
    #expect(try client.call("GET", world.key("user:2")) == nil)
    let sequence = try client.call("SEQUENCE").integerValue ?? 0
    try world.psql("UPDATE users SET name = 'new' WHERE id = 2")
    try eventually("it has heard of it") { try client.call("SEQUENCE") == .integer(sequence + 1) }
    #expect(try client.call("PUT", world.key("user:2"), "old") == 0)
    try application.fill(world.key("user:2"), "new")

    // A new generation drops everything.
    #expect(try sidecar.client().call("NEARSIDE", "INVALIDATE", "ALL") == .ok)
    try eventually("everything is gone") { try client.call("SIZE") == 0 }
    try application.fill(world.key("user:2"), "again")

    // So does a broken connection, and a number that is missing.
    #expect(try redis.client().call("CLIENT", "KILL", "TYPE", "pubsub").integerValue ?? 0 >= 1)
    try eventually("everything is gone") { try client.call("SIZE") == 0 }
    try eventually("it is subscribed again") { try client.call("CONNECTED") == 1 }
    try world.psql("UPDATE users SET name = 'x' WHERE id = 3")
    try eventually("it hears again") { try client.call("SEQUENCE").integerValue ?? -1 >= 0 }
    try application.fill(world.key("user:2"), "again")
    try redis.client().call("HINCRBY", "nearside:{\(world.database)}:m", "s", "1")
    try world.psql("UPDATE users SET name = 'y' WHERE id = 3")
    try eventually("everything is gone") { try client.call("SIZE") == 0 }

    // And while Redis is away nothing is kept.
    try application.fill(world.key("user:2"), "again")
    try redis.stop()
    try eventually("everything is gone") { try client.call("CONNECTED") == 0 }
    #expect(try client.call("GET", world.key("user:2")) == nil)
    #expect(try client.call("PUT", world.key("user:2"), "x") == 0)
  }

  @Test("Under a stream of changes the example never ends with a value that PostgreSQL does not have")
  func exampleStaysCoherent() throws {
    let world = try World(postgres: Self.postgres.get())
    let sidecar = try world.sidecar()
    let application = try Application(world, redis: try #require(world.redis).socket)
    let client = application.client
    let ids = Array(1...100)
    for round in 1...20 {
      // Cache-aside for all rows: the changes fall between reading and putting.
      let cached = try client.pipeline(ids.map { ["GET", world.key("user:\($0)")] })
      let rows = try world.psql("SELECT name FROM users ORDER BY id").split(separator: "\n").map(String.init)
      #expect(rows.count == ids.count)
      try world.psql(
        "UPDATE users SET name = 'Round \(round)' WHERE id % 20 = \(round % 20) OR random() < 0.1")
      let missed = ids.indices.filter { cached[$0] == nil }
      _ = try client.pipeline(missed.map { ["PUT", world.key("user:\(ids[$0])"), rows[$0]] })
    }
    try world.settle(sidecar)
    let sent = try #require(Int64(try world.redis?.cli("HGET", "nearside:{\(world.database)}:m", "s") ?? ""))
    try eventually("all is heard") { try client.call("SEQUENCE") == .integer(sent) }
    let rows = try world.psql("SELECT name FROM users ORDER BY id").split(separator: "\n").map(String.init)
    let cached = try client.pipeline(ids.map { ["GET", world.key("user:\($0)")] })
    var kept = 0
    for (row, value) in zip(rows, cached) where value != nil {
      #expect(value == .bulk(row))
      kept += 1
    }
    #expect(kept > 0)
  }
}

/// A log position as a number.
private struct Position: Comparable {
  let value: UInt64

  init(_ text: String) {
    let halves = text.split(separator: "/").map { UInt64($0, radix: 16) ?? 0 }
    value = halves.count == 2 ? halves[0] << 32 | halves[1] : 0
  }

  static func < (a: Position, b: Position) -> Bool { a.value < b.value }
}
