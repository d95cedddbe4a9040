import Configuration
import Foundation
import Invalidation
import TestSupport
import Testing

@testable import Redis

/// The scripts of write-behind: a pending value lies over its key until it is ended.
@Suite("Scripts of write-behind")
struct BehindScriptTests {
  let lab: Lab
  let key = "shop:product:7"
  init() throws { lab = try Lab() }

  private func set(
    _ value: String, _ redis: inout RedisConnection, most: Int = 10, lives: String = "",
    limit: String = ""
  ) throws -> RedisReply {
    try redis.eval(
      StateScripts.behind, [lab.keys.meta, key, lab.keys.writes, lab.keys.pendingWrites],
      [lab.keys.journalPrefix, lab.keys.channel, "60000"].map { Array($0.utf8) } + [rest(table: nil, [key])]
        + [bucket(key), String(most), lives, limit, value].map { Array($0.utf8) })
  }

  private func restore(_ keys: [String], _ redis: inout RedisConnection) throws -> RedisReply {
    try redis.eval(StateScripts.restore, [lab.keys.writes, lab.keys.pendingWrites] + keys)
  }

  private func finish(
    _ id: String, _ ids: [String], _ redis: inout RedisConnection, reason: String = ""
  ) throws -> RedisReply {
    try redis.eval(
      StateScripts.finished,
      [lab.keys.meta, lab.keys.writes, lab.keys.pendingWrites, lab.keys.deadWrites, key],
      [lab.keys.journalPrefix, lab.keys.channel, "60000", bucket(key), id, ids.joined(separator: ",")].map {
        Array($0.utf8)
      } + [rest(table: nil, [key]), Array(reason.utf8), Array("3".utf8)])
  }

  @Test("A SET is journalled, stored and told, and voids every lease; the full stream takes none")
  func taken() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let told = try Subscriber(lab)
    let reply = try set("v", &redis)
    let id = try #require(reply[1].text)
    #expect(reply[0] == "OK")
    #expect(try redis.call("GET", key) == "v")
    #expect(try redis.call("HGET", lab.keys.pendingWrites, key).text == id)
    #expect(try redis.journal(lab).last?.keys == [key])
    #expect(try told.next()["keys"] as? [String] == [key])
    #expect(try redis.fill(lab, "replace", stamp: stamp(0x100), key, ["SET", key, "old"])[0] == "FENCE")
    #expect(try redis.call("GET", key) == "v")
    #expect(try set("w", &redis, most: 1)[0] == "FULL")
    #expect(try redis.call("GET", key) == "v")
    #expect(try redis.call("XLEN", lab.keys.writes) == 1)
  }

  @Test("Without a state nothing is taken")
  func noState() throws {
    var redis = try lab.connect()
    #expect(try set("v", &redis)[0] == "NOSTATE")
    #expect(try redis.call("EXISTS", key, lab.keys.writes) == 0)
  }

  @Test("A pending value is put back under its key, whatever became of that, with the time it has left")
  func restored() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    _ = try set("v", &redis, lives: "60000")
    #expect(try restore([key, "shop:product:8"], &redis) == [1, 0])
    for step in 0..<3 {
      switch step {
      case 0: try redis.call("DEL", key)
      case 1: try redis.call("SET", key, "another")
      default:
        try redis.call("DEL", key)
        try redis.call("HSET", key, "a", "b")
      }
      #expect(try restore([key], &redis) == [1])
      #expect(try redis.call("GET", key) == "v")
      let left = try #require(try redis.call("PTTL", key).number)
      #expect((30_000...60_000).contains(left))
    }
    #expect(try redis.call("EXISTS", "shop:product:8") == 0)
  }

  @Test("A pending value that has outlived its time is absent")
  func expired() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    _ = try set("v", &redis, lives: "1")
    try eventually("its time is over") { try restore([key], &redis) == [2] }
    try redis.call("SET", key, "older")
    #expect(try restore([key], &redis) == [2])
    #expect(try redis.call("EXISTS", key) == 0)
  }

  @Test("A pending value outlives the time that its cache gives any value, not the one that the client gave")
  func limited() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    _ = try set("v", &redis, lives: "60000", limit: "50")
    try eventually("Redis has dropped it") { try redis.call("EXISTS", key) == 0 }
    #expect(try restore([key], &redis) == [1])
    #expect(try #require(try redis.call("PTTL", key).number) <= 50)
    _ = try set("v", &redis, lives: "1", limit: "60000")
    try eventually("its time is over") { try restore([key], &redis) == [2] }
  }

  @Test("An entry that is lost is pending no more, and its value goes with it")
  func lost() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    _ = try set("v", &redis)
    try redis.call("DEL", lab.keys.writes)
    #expect(try restore([key], &redis) == [0])
    #expect(try redis.call("EXISTS", lab.keys.pendingWrites) == 0)
    #expect(try redis.call("EXISTS", key) == 0)
  }

  @Test("What is ended is removed as by a DEL, unless something newer is pending")
  func finished() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let first = try #require(try set("1", &redis)[1].text)
    let second = try #require(try set("2", &redis)[1].text)
    let third = try #require(try set("3", &redis)[1].text)
    let entries = try redis.journal(lab).count
    #expect(try finish(second, [first, second], &redis) == 0)
    #expect(try redis.call("GET", key) == "3")
    #expect(try redis.call("XLEN", lab.keys.writes) == 1)
    #expect(try redis.journal(lab).count == entries)
    let lease = try #require(try redis.state(lab)).stamp
    #expect(try finish(third, [third], &redis) == 1)
    #expect(try redis.call("EXISTS", key, lab.keys.pendingWrites) == 0)
    #expect(try redis.call("XLEN", lab.keys.writes) == 0)
    #expect(try redis.journal(lab).count == entries + 1)
    #expect(try redis.fill(lab, "replace", stamp: lease.hex, key, ["SET", key, "old"])[0] == "FENCE")
    // Again, by a host that was stopped: nothing.
    _ = try set("4", &redis)
    #expect(try finish(third, [third], &redis) == 0)
    #expect(try redis.call("GET", key) == "4")
    #expect(try redis.call("XLEN", lab.keys.deadWrites) == 0)
  }

  @Test("What is given up stands among the dead letters with its reason")
  func dead() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let id = try #require(try set("1", &redis)[1].text)
    #expect(try finish(id, [id], &redis, reason: "23514") == 1)
    let letter = try redis.call("XRANGE", lab.keys.deadWrites, "-", "+")[0][1]
    #expect(letter == ["k", .init(stringLiteral: key), "v", "1", "s", "23514", "n", "3"])
    #expect(try redis.call("EXISTS", key) == 0)
  }

  @Test("A load stores nothing over what is pending")
  func loaded() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    _ = try set("v", &redis)
    let lease = try #require(try redis.state(lab)).stamp.hex
    func load(_ keys: [String], _ redis: inout RedisConnection) throws -> RedisReply {
      try redis.eval(
        StateScripts.load, [lab.keys.meta] + keys, [g1.hex, bucket(key), lease, "", "string", "", "1", "old"])
    }
    #expect(try load([key, lab.keys.pendingWrites], &redis)[0] == "FENCE")
    #expect(try redis.call("GET", key) == "v")
    // Without the check it would.
    #expect(try load([key], &redis)[0] == "OK")
    #expect(try redis.call("GET", key) == "old")
  }

  @Test("Depth, age and dead letters")
  func backlog() throws {
    var redis = try lab.connect()
    try redis.beginCleared(lab)
    let keys = [lab.keys.writes, lab.keys.deadWrites]
    #expect(try redis.eval(StateScripts.backlog, keys) == [0, 0, 0])
    _ = try set("1", &redis)
    _ = try set("2", &redis)
    try eventually("it ages") {
      let reply = try redis.eval(StateScripts.backlog, keys)
      return reply[0] == 2 && reply[1].number ?? 0 > 5 && reply[2] == 0
    }
  }
}
