import Invalidation
import Testing

@Suite("What Nearside's own functions write into the log")
struct LogMessageTests {
  static func invalidate(_ content: String, transactional: Bool = true) -> [UInt8] {
    PgOutput.message("nearside.invalidate", Array(content.utf8), transactional: transactional, at: 0x1000)
  }

  @Test("keys of the own namespace go into the batch, in order, and no table has them")
  func keys() throws {
    var stream = Stream([rule("users", ["user:{id}"])])
    let events = try stream.transaction([
      Self.invalidate(
        "shop:user:42\0blog:user:42\0shopping:1\0shop\0shop:Ünï %:{}\0\0shop:user:42\0shop:last\0")
    ])
    #expect(events == [.rows])
    for index in 0..<stream.batch.count { #expect(stream.batch.table(index) == LogMessage.noTable) }
    #expect(stream.keys() == ["shop:user:42", "shop:Ünï %:{}", "shop:last"])
  }

  @Test("tags that some cache has go into the batch, whatever else is named")
  func tags() throws {
    var stream = Stream([], caches: [KeyGroupTests.cache("report:{id}", "tenant:{id}")])
    func tags(_ content: String, transactional: Bool = true) -> [UInt8] {
      PgOutput.message(
        "nearside.invalidate_tag", Array(content.utf8), transactional: transactional, at: 0x1000)
    }
    #expect(try stream.transaction([tags("tenant:7\0nobody\0\0tenant:\0tenant:8\0tenant:7")]) == [.rows])
    #expect(stream.batch.groups == ["ttenant:7", "ttenant:", "ttenant:8"])
    for index in 0..<stream.batch.groupCount {
      #expect(stream.batch.withGroup(index) { _, table in table } == LogMessage.noTable)
    }
    #expect(try stream.transaction([tags("nobody\0"), tags("")]) == [.nothing, .nothing])
    #expect(try stream.transaction([tags("tenant:9", transactional: false)]) == [.nothing])
    #expect(stream.batch.count == 0)
  }

  @Test("keys of rows and keys of SQL share the transaction and its limit")
  func limit() throws {
    var stream = Stream([rule("users", ["user:{id}"])], maximumKeys: 3)
    try stream.describe(PgOutputMessageTests.users)
    let row = PgOutput.insert(10, ["1", nil])
    #expect(try stream.transaction([row, Self.invalidate("shop:a\0shop:b\0")]) == [.rows, .rows])
    #expect(stream.keys() == ["shop:user:1", "shop:a", "shop:b"])
    let events = try stream.transaction([
      row, Self.invalidate("shop:a\0shop:b\0shop:c\0shop:d\0"), Self.invalidate("shop:e\0shop:*\0"), row,
    ])
    #expect(events == [.rows, .doubt(.tooManyKeys(limit: 3)), .nothing, .nothing])
    #expect(stream.batch.count == 4)
  }

  @Test(
    "a final star is a prefix, and one that every key begins with begins a new generation",
    arguments: [
      ("shop:cart:*", "pshop:cart:"), ("shop:a*b*", "pshop:a*b"), ("shop:c*", "pshop:c"), ("shop:*", nil),
      ("sho*", nil), ("*", nil),
    ])
  func prefixes(named: String, expected: String?) throws {
    var stream = Stream([])
    let events = try stream.transaction([Self.invalidate("shop:x\0\(named)\0shop:y\0")])
    #expect(events == [expected == nil ? .doubt(.invalidatedAll) : .rows])
    #expect(stream.batch.groups == (expected.map { [$0] } ?? []))
    #expect(stream.keys() == ["shop:x", "shop:y"])
  }

  @Test("the longest prefix is the longest name less its kind")
  func longestPrefix() throws {
    var stream = Stream([])
    let longest = "shop:" + String(repeating: "x", count: KeyGroup.longestName - 5)
    #expect(try stream.transaction([Self.invalidate(longest + "*\0")]) == [.rows])
    #expect(stream.batch.packedGroups(0..<1).bytes.count == PackedKeys.longestKey + 2)
    #expect(try stream.transaction([Self.invalidate(longest + "x*\0")]) == [.doubt(.keyTooLong)])
  }

  @Test("a prefix of another namespace concerns nobody here", arguments: ["blog:*", "shops*", "shopping:*"])
  func foreignPrefixes(named: String) throws {
    var stream = Stream([])
    #expect(try stream.transaction([Self.invalidate(named + "\0")]) == [.nothing])
    #expect(stream.keys() == [])
  }

  @Test("without a namespace every key counts")
  func noNamespace() throws {
    var stream = Stream([], prefix: "")
    #expect(try stream.transaction([Self.invalidate("a\0\0b:c\0")]) == [.rows])
    #expect(stream.keys() == ["a", "b:c"])
  }

  @Test("whatever the content, the tail goes on: no end, no text, no key, or one that is too long")
  func anyContent() throws {
    var stream = Stream([])
    #expect(try stream.transaction([Self.invalidate("shop:unended")]) == [.rows])
    #expect(stream.keys() == ["shop:unended"])
    #expect(
      try stream.transaction([Self.invalidate(""), Self.invalidate("\0\0\0")]) == [.nothing, .nothing])
    let bytes = PgOutput.message(
      "nearside.invalidate", Array("shop:".utf8) + [0xff, 0xc3, 0], transactional: true, at: 0x1000)
    #expect(try stream.transaction([bytes]) == [.rows])
    let raw = stream.batch.withKey(0) { key, _ in [UInt8](key) }
    #expect(raw == Array("shop:".utf8) + [0xff, 0xc3])
    _ = stream.keys()
    let longest = "shop:" + String(repeating: "x", count: PackedKeys.longestKey - 5)
    #expect(try stream.transaction([Self.invalidate(longest + "\0")]) == [.rows])
    #expect(stream.keys() == [longest])
    let events = try stream.transaction([Self.invalidate("shop:a\0\(longest)x\0shop:b\0blog\(longest)\0")])
    #expect(events == [.doubt(.keyTooLong)])
    #expect(stream.keys() == ["shop:a", "shop:b"])
  }

  @Test("a message outside a transaction belongs to no commit and says nothing")
  func loose() throws {
    var stream = Stream([])
    #expect(try stream.feed(Self.invalidate("shop:a\0", transactional: false)) == .nothing)
    let loose = PgOutput.message("nearside.ddl", [], transactional: false, at: 0x1000)
    #expect(try stream.feed(loose) == .nothing)
    #expect(stream.keys() == [])
  }

  @Test("DDL is a doubt, whatever the message holds; the nudge is nothing")
  func definitions() throws {
    var stream = Stream([])
    let ddl = PgOutput.message("nearside.ddl", [0xff, 0], transactional: true, at: 0x1000)
    let nudge = PgOutput.message("nearside", [1], transactional: true, at: 0x1000)
    #expect(try stream.transaction([nudge, ddl]) == [.nothing, .doubt(.schemaChanged)])
    #expect(Doubt.schemaChanged.description == "a table's definition changed")
  }
}
