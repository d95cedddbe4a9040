import Invalidation
import TestSupport
import Testing

@testable import Server

@Suite("Strings in the embedded mode")
struct EmbeddedStringTests {
  @Test("every command is answered as Redis answered it", arguments: Recorded.groups(RecordedStrings.text))
  func recorded(_ group: [Recorded]) throws {
    let sidecar = try EmbeddedSidecar()
    var tail = Tail(sidecar)
    try tail.begin()
    // One write, so that no time passes between the commands.
    let answer = try RawClient(sidecar.path).answer(group.flatMap(\.command))
    let replies = cutReplies(answer)
    #expect(replies.count == group.count)
    for (recorded, reply) in zip(group, replies) {
      #expect(reply == recorded.answer, "\(recorded.sent)")
    }
  }

  @Test("commands in any order get the replies of a real Redis", arguments: [1, 2, 3] as [UInt64], [2, 3])
  func differential(_ seed: UInt64, _ version: Int) throws {
    let redis = try RedisServer()
    let sidecar = try EmbeddedSidecar()
    var tail = Tail(sidecar)
    try tail.begin()
    let (theirs, ours) = (try RawClient(redis.socket), try RawClient(sidecar.path))
    _ = try theirs.answer("HELLO", "\(version)")
    _ = try ours.answer("HELLO", "\(version)")
    var random = Seeded(seed)
    for round in 0..<250 {
      var story = Story(key: "user:\(seed)-\(round)")
      let commands = story.write(&random)
      let sent = commands.flatMap { encode($0.map { Array($0.utf8) }) }
      let expected = cutReplies(try theirs.answer(sent))
      let answers = cutReplies(try ours.answer(sent))
      #expect(answers.count == commands.count && expected.count == commands.count)
      for (index, command) in commands.enumerated() {
        let (theirs, ours) = (expected[index], answers[index])
        if theirs != ours, !Story.isSameTime(command, theirs, ours) {
          Issue.record(
            "seed \(seed): Redis answers \(theirs), Nearside \(ours), to the last of \(commands[...index])")
          break
        }
      }
    }
  }

  @Test("the table of commands is Redis's own")
  func commandTable() throws {
    let redis = try RedisServer()
    let table = CommandTable()
    var seen = 0
    for row in try redis.client().call("COMMAND").elements ?? [] {
      guard let fields = row.elements, let name = fields[0].text else { continue }
      let spec = Array(name.utf8).withUnsafeBytes { table.spec($0) }
      #expect(spec.map { Int64($0.arity) } == fields[1].integerValue, "\(name)")
      #expect(spec.map { Int64($0.firstKey) } == fields[3].integerValue, "\(name)")
      #expect(spec.map { Int64($0.lastKey) } == fields[4].integerValue, "\(name)")
      if spec?.firstKey != 0 { #expect(spec.map { Int64($0.keyStep) } == fields[5].integerValue, "\(name)") }
      seen += 1
    }
    #expect(seen > 200)
  }
}

/// Each reply of `answer` as a text.
func cutReplies(_ answer: [UInt8]) -> [String] {
  var scanner = ReplyScanner()
  var replies: [String] = []
  var rest = answer[...]
  while !rest.isEmpty {
    guard case .complete(let length) = rest.withUnsafeBytes({ scanner.next($0) }) else {
      return replies + ["no reply: " + text(rest)]
    }
    replies.append(text(rest.prefix(length)))
    rest = rest.dropFirst(length)
  }
  return replies
}

/// What may happen to one key until it is removed. What comes after are reads alone: a removal voids the
/// leases of before, so in the embedded mode a SET behind it is answered and not stored.
struct Story {
  let key: String
  private var isRemoved = false

  init(key: String) { self.key = key }

  private static let numbers = [
    "0", "-1", "5000", "100000", "10000", "x", "", "9223372036854775807", "-9223372036854775808", "03", "-0",
    "+5", "1.5", " 1", "99999999999999999999", "3",
  ]
  private static let values = [
    "v", "", "10", "-5", "hello world", "9223372036854775807", "abc\r\ndef",
    String(repeating: "x", count: 300),
    "007", "3.5",
  ]
  private static let setOptions = [
    "nx", "xx", "get", "keepttl", "ex", "px", "exat", "pxat", "persist", "foo",
  ]
  private static let expiryOptions = [
    [], [], ["nx"], ["xx"], ["gt"], ["lt"], ["xx", "gt"], ["nx", "lt"], ["gt", "lt"], ["bar"], ["lt", "xx"],
  ]
  /// Far enough ahead that none of them passes during a test, and near enough that the clock since boot can
  /// name them.
  private static let times = numbers.filter { $0 != "3" } + ["36000", "86400"]

  mutating func write(_ random: inout Seeded) -> [[String]] {
    var commands = [["GET", key]]
    for _ in 0..<Int.random(in: 2...14, using: &random) {
      var command = isRemoved ? read(&random) : any(&random)
      // Names count in any case.
      command[0] = String(command[0].map { Bool.random(using: &random) ? $0 : Character($0.uppercased()) })
      commands.append(command)
    }
    return commands
  }

  private func pick<Element>(_ all: [Element], _ random: inout Seeded) -> Element {
    all[Int.random(in: 0..<all.count, using: &random)]
  }

  private func read(_ random: inout Seeded) -> [String] {
    pick(
      [
        ["get", key], ["strlen", key], ["exists", key, key], ["ttl", key], ["pttl", key], ["type", key],
        ["mget", key, key], ["expiretime", key], ["pexpiretime", key],
      ], &random)
  }

  private mutating func any(_ random: inout Seeded) -> [String] {
    let value = pick(Self.values, &random)
    let time = pick(Self.times, &random)
    let command: [String]
    switch Int.random(in: 0..<20, using: &random) {
    case 0..<6: return read(&random)
    case 6..<12:
      command = pick(
        [
          set(value, &random), set(value, &random), set(value, &random), ["setex", key, time, value],
          ["psetex", key, time, value], ["setnx", key, value], ["getset", key, value],
          ["mset", key, value, key, "w"], ["mset", key],
        ], &random)
    case 12..<15:
      let number = pick(Self.numbers, &random)
      command = pick(
        [
          ["append", key, value], ["incr", key], ["decr", key], ["incrby", key, number],
          ["incrbyfloat", key, number], ["incrbyfloat", key, "0.37"],
          ["decrby", key, number],
        ],
        &random)
    case 15..<18:
      command =
        [pick(["expire", "pexpire", "expireat", "pexpireat"], &random), key, time]
        + pick(Self.expiryOptions, &random)
    case 18:
      command =
        ["getex", key]
        + pick(
          [
            [], ["persist"], ["ex", time], ["px", time], ["exat", time], ["pxat", time], ["ex"],
            ["persist", "ex", "5"], ["nx"], ["keepttl"], ["ex", "5", "ex", "7"], ["ex", "5", "px", "7"],
          ], &random)
    default:
      command = pick([["del", key], ["unlink", key, key], ["getdel", key], ["persist", key]], &random)
    }
    // Whether it really removed is for Redis to say; that it may have is enough.
    isRemoved = ["del", "unlink", "getdel"].contains(command[0]) || Self.mayBePast(command)
    return command
  }

  private func set(_ value: String, _ random: inout Seeded) -> [String] {
    var command = ["set", key, value]
    for _ in 0..<pick([0, 0, 1, 1, 2, 3], &random) {
      let option = pick(Self.setOptions, &random)
      command.append(option)
      if ["ex", "px", "exat", "pxat"].contains(option) { command.append(pick(Self.times, &random)) }
    }
    return command
  }

  private static func mayBePast(_ command: [String]) -> Bool {
    if command.contains("exat") || command.contains("pxat") { return true }
    guard command[0].contains("expire"), let time = Int(command[2]) else { return false }
    return command[0].hasSuffix("at") || time <= 0
  }

  /// Whether two different answers are the same end of a value, seen at two moments or with the reach of two
  /// clocks.
  static func isSameTime(_ command: [String], _ theirs: String, _ ours: String) -> Bool {
    let slack: [String: Int] = ["ttl": 20, "pttl": 20_000, "expiretime": 20, "pexpiretime": 20_000]
    guard let slack = slack[command[0].lowercased()], let a = number(theirs), let b = number(ours) else {
      return false
    }
    if a < 0 || b < 0 { return false }
    // Beyond 584 years the clock since boot ends.
    return abs(a - b) <= slack || a > 10_000_000_000 && b > 10_000_000_000
  }

  private static func number(_ reply: String) -> Int? {
    guard reply.hasPrefix(":"), reply.hasSuffix(#"\r\n"#) else { return nil }
    return Int(reply.dropFirst().dropLast(4))
  }
}
