import Configuration
import Testing

@testable import Invalidation

@Suite("Groups of keys")
struct KeyGroupTests {
  static func cache(_ text: String, _ tags: String...) -> CacheRule {
    CacheRule(
      template: template(text), near: nil, plainSet: PlainSetSettings(mode: .window, window: 1),
      tags: tags.map { template($0) })
  }

  static let groups = KeyGroups(
    tables: [
      rule("a", ["user:{id}", "category:{category_id}:*"]), rule("b", ["category:*", "category:{id}:*"]),
    ],
    caches: [
      cache("t:{tenant_id}:user:{id}", "tenant:{tenant_id}", "all%", "{id}-{tenant_id}"),
      cache("t:1:user:me"),
      cache("d:{tenant_id}:*", "tenant:{tenant_id}"),
    ], keyPrefix: "shop:")

  private func names(_ key: String, _ groups: KeyGroups = groups) -> [String] {
    var names: [String] = []
    Array(key.utf8).withUnsafeBytes {
      groups.forEach(of: $0) { names.append(String(decoding: $0, as: UTF8.self)) }
    }
    return names
  }

  @Test(
    "a key's groups are the prefixes of the rules that cover it and the tags of its cache",
    arguments: [
      ("shop:category:7:page:1", ["pshop:category:7:", "pshop:category:"]),
      ("shop:category:7", ["pshop:category:"]), ("shop:user:1", []), ("blog:category:7:x", []),
      ("shop:t:7:user:42", ["ttenant:7", "tall%", "t42-7"]),
      ("shop:t:7:user:", ["ttenant:7", "tall%", "t-7"]),
      // The more special template has no tags.
      ("shop:t:1:user:me", []), ("shop:d:7:a:b", ["ttenant:7"]), ("shop:d:7", []),
    ])
  func membership(key: String, expected: [String]) {
    #expect(names(key) == expected)
    let membership = Array(key.utf8).withUnsafeBytes { Self.groups.membership(of: $0) }
    #expect(membership?.buckets.count ?? 0 == expected.count)
    var tags: [String] = []
    membership?.tags.forEach { tags.append(String(decoding: $0, as: UTF8.self)) }
    #expect(tags == expected.filter { $0.hasPrefix("t") })
  }

  @Test("a row's group has the bucket of its keys' group: both are written alike")
  func agreement() throws {
    var stream = Stream([
      rule("users", ["category:{email|lower}:*"], tags: ["tenant:{id}"])
    ])
    try stream.describe(
      table(10, "users", identity: .full, [column("id", PgType.int8, key: true), column("email", key: true)]))
    try stream.transaction([PgOutput.insert(10, ["7", "A:b"])])
    let groups = KeyGroups(
      tables: [rule("users", ["category:{email|lower}:*"])], caches: [Self.cache("t:{x}:{y}", "tenant:{x}")],
      keyPrefix: "shop:")
    #expect(stream.batch.groups == names("shop:category:a%3Ab:1", groups) + names("shop:t:7:1", groups))
  }

  @Test("a prefix is a rule's only if it is exactly one of its prefixes")
  func adHoc() {
    func isAdHoc(_ group: String) -> Bool { Array(group.utf8).withUnsafeBytes { Self.groups.isAdHoc($0) } }
    #expect(!isAdHoc("pshop:category:7:"))
    #expect(!isAdHoc("pshop:category:"))
    #expect(isAdHoc("pshop:category:7"))
    #expect(isAdHoc("pshop:category:7:page:"))
    #expect(isAdHoc("pshop:cart:"))
    #expect(isAdHoc("pshop:"))
    #expect(!isAdHoc("ttenant:7"))
  }

  @Test("pending groups cover what begins with a prefix or has a tag, and are read strictly")
  func pending() throws {
    func packed(_ names: [String]) -> [UInt8] {
      var keys = PackedKeys()
      for name in names { Array(name.utf8).withUnsafeBytes { keys.append($0) } }
      return keys.bytes
    }
    let pending = try #require(PendingGroups(bytes: packed(["pshop:c:7:", "1-0", "ttenant:7", "2-0"])))
    #expect(pending.count == 2)
    #expect(pending.groups.bytes == packed(["pshop:c:7:", "ttenant:7"]))
    func covers(_ key: String, _ tags: [String] = []) throws -> Bool {
      let tags = try #require(PackedKeys(bytes: packed(tags)))
      return Array(key.utf8).withUnsafeBytes { pending.covers($0, tags: tags) }
    }
    #expect(try covers("shop:c:7:"))
    #expect(try covers("shop:c:7:x"))
    #expect(try !covers("shop:c:7"))
    #expect(try !covers("shop:c:70:x"))
    #expect(try covers("shop:t:7", ["tother", "ttenant:7"]))
    #expect(try !covers("shop:t:7", ["ttenant:70", "ttenant:"]))
    for broken in [["pa"], ["xa", "1-0"], ["", "1-0"]] {
      #expect(PendingGroups(bytes: packed(broken)) == nil)
    }
    #expect(PendingGroups(bytes: [0]) == nil)
    #expect(PendingGroups(bytes: [])?.isEmpty == true)
  }

  @Test("a broken field of pending groups is no state")
  func brokenState() {
    let fields: [String?] = [
      "00000000000000a1", nil, "0", "0000000000000100", "0000000000000100", String(repeating: "0", count: 32),
      "0000000000000000", "0-0", "0", "cfg",
    ]
    #expect(FleetState(fields: fields, pending: nil)?.pending.isEmpty == true)
    #expect(FleetState(fields: fields, pending: [0, 9, 1]) == nil)
  }

  @Test("a batch has each group once, and moves the open ones with the open transaction")
  func batch() {
    var batch = KeyBatch()
    func append(_ group: String, _ batch: inout KeyBatch) {
      Array(group.utf8).withUnsafeBytes { batch.append(group: $0, table: 0) }
    }
    append("pa", &batch)
    append("pa", &batch)
    #expect(batch.groupCount == 1 && batch.completeGroupCount == 0)
    batch.complete(through: LSN(1))
    append("pa", &batch)
    append("tb", &batch)
    #expect(batch.groupCount == 2 && batch.completeGroupCount == 1)
    var other = KeyBatch()
    batch.moveOpen(to: &other)
    #expect(batch.groups == ["pa"])
    #expect(other.groups == ["pa", "tb"])
    #expect(other.completeGroupCount == 0)
    append("tc", &batch)
    batch.dropOpen()
    #expect(batch.groups == ["pa"])
    let filled = batch.isEmpty
    batch.removeAll()
    let emptied = batch.isEmpty
    append("tc", &batch)
    let open = batch.isEmpty
    #expect((filled, emptied, open) == (false, true, false))
  }

  @Test("explain shows prefixes and tags")
  func explain() {
    let plan = KeyPlan(
      tables: [rule("products", ["product:{id}", "category:{c}:*"], tags: ["tenant:{t}"])], keyPrefix: "shop:"
    )
    let explained = plan.explain(
      table: 0, catalogue: nil, new: ["id": "1", "c": "7", "t": nil], old: ["id": "1", "c": "8", "t": "5"],
      operation: .update)
    #expect(
      explained.map(\.key) == ["shop:product:1", "shop:category:7:*", "shop:category:8:*", nil, "tenant:5"])
    #expect(explained.map(\.kind) == [.key, .prefix, .prefix, .tag, .tag])
  }

  @Test("a transaction with more groups than may wait begins a new generation")
  func tooMany() throws {
    var stream = Stream([rule("users", ["c:{id}:*"])])
    try stream.describe(PgOutputMessageTests.users)
    let rows = (0...PendingGroups.most).map { PgOutput.insert(10, [.text(String($0)), nil]) }
    let events = try stream.transaction(rows)
    #expect(events.last == .doubt(.tooManyGroups(limit: PendingGroups.most)))
    #expect(events.dropLast().allSatisfy { $0 == .rows })
  }
}
