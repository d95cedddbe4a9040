import Invalidation
import Testing

@testable import Server

@Suite("What applications announce")
struct AnnouncementTests {
  private func parse(_ text: String) -> Announcement? { Announcement(Array(text.utf8)) }
  private func names(_ list: [[UInt8]]?) -> [String]? { list?.map { String(decoding: $0, as: UTF8.self) } }

  @Test("A message is a key, a list of keys, or an object with keys, prefixes and tags")
  func forms() {
    #expect(names(parse("shop:user:1")?.keys) == ["shop:user:1"])
    #expect(names(parse(#"["shop:user:1", "shop:caf\u00e9"]"#)?.keys) == ["shop:user:1", "shop:café"])
    let all = parse(#"{"keys":["shop:a"],"prefixes":["shop:b:*","shop:c:"],"tags":["t:1"],"by":"me"}"#)
    #expect(names(all?.keys) == ["shop:a"])
    #expect(names(all?.prefixes) == ["shop:b:", "shop:c:"])
    #expect(names(all?.tags) == ["t:1"])
    #expect(names(parse(#"{"tags":["t:1"]}"#)?.tags) == ["t:1"])
  }

  @Test(
    "Anything else is malformed",
    arguments: [
      "", "[]", "{}", "[1]", #"["a",null]"#, #"[""]"#, "[", #"{"keys":"a"}"#, #"{"keys":[]}"#,
      #"{"other":["a"]}"#, #"{"prefixes":[{}]}"#, #"{"keys":["a"],"keys":["b"]"#,
    ])
  func malformed(_ text: String) { #expect(parse(text) == nil) }

  @Test("No length of a message or of a name is too much for it")
  func lengths() {
    #expect(Announcement([UInt8](repeating: 97, count: 100_000)) == nil)
    #expect(parse(#"[""# + String(repeating: "a", count: 100_000) + #""]"#) == nil)
    let many = "[" + [String](repeating: #""k""#, count: 400_000).joined(separator: ",") + "]"
    #expect(parse(many) == nil)
    #expect(parse(String(repeating: "[", count: 500_000)) == nil)
  }

  @Test("Errands are counted by keys; too many are dropped, until another generation is followed")
  func errands() {
    func errand(_ count: Int) -> Errand { .remove([[UInt8]](repeating: [97], count: count)) }
    var errands = Errands()
    func add(_ errand: Errand, _ generation: UInt64?) -> Bool {
      errands.append(errand, generation: generation.map { Generation($0) })
    }
    for _ in 0..<Errands.most / 1000 {
      let isKept = add(errand(1000), 1)
      #expect(isKept)
    }
    #expect(!errands.forgetsAll && errands.names == Errands.most)
    var isKept = add(.clear([112]), 1)
    #expect(!isKept)
    #expect(errands.forgetsAll && errands.waiting.isEmpty && errands.names == 0)
    errands.follows(Generation(1))
    #expect(errands.forgetsAll)
    isKept = add(errand(1), 1)
    #expect(isKept)
    // It began by itself, perhaps before what was dropped was announced.
    errands.follows(Generation(2))
    #expect(errands.forgetsAll)
    errands.asked()
    errands.follows(Generation(2))
    #expect(errands.forgetsAll)
    errands.follows(Generation(3))
    #expect(!errands.forgetsAll)
    let taken = errands.take()
    #expect(taken == [errand(1)] && errands.names == 0)
    // The first generation that is heard of may be one from before.
    for _ in 0...Errands.most / 1000 { _ = add(errand(1000), nil) }
    errands.asked()
    errands.follows(Generation(3))
    #expect(errands.forgetsAll)
    errands.follows(Generation(4))
    #expect(!errands.forgetsAll)
  }
}
