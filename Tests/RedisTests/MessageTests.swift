import Foundation
import Invalidation
import Testing

@Suite("Published messages")
struct MessageTests {
  /// What a JSON parser reads of a message with this key.
  func parsed(_ key: [UInt8], table: String? = nil) throws -> (table: String?, key: String?) {
    var message = PublishedMessage(table: table)
    key.withUnsafeBytes { message.append($0) }
    let object =
      try JSONSerialization.jsonObject(with: Data(Array("{".utf8) + message.rest())) as? [String: Any]
    return (object?["table"] as? String, (object?["keys"] as? [String])?.first)
  }

  @Test("Any text comes back from a JSON parser as it was")
  func texts() throws {
    let texts = [
      "", "shop:user:42", "a\"b\\c/d", "\u{0}\u{1}\u{1f}\u{7f}\n\r\t", "Zoë",
      "€ \u{ffff}", "😀\u{10ffff}",
      "\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{10000}",
    ]
    for text in texts {
      #expect(try parsed(Array(text.utf8)).key == text)
      #expect(try parsed([], table: text).table == text)
    }
  }

  @Test(
    "Bytes that are no UTF-8 become one \\u00XX each",
    arguments: [
      ([0x80], "\u{80}"), ([0xc0, 0xaf], "\u{c0}\u{af}"), ([0xc3], "\u{c3}"), ([0xe2, 0x82], "\u{e2}\u{82}"),
      ([0xe0, 0x80, 0x80], "\u{e0}\u{80}\u{80}"), ([0xed, 0xa0, 0x80], "\u{ed}\u{a0}\u{80}"),
      ([0xf4, 0x90, 0x80, 0x80], "\u{f4}\u{90}\u{80}\u{80}"), ([0xf5, 0x41], "\u{f5}A"),
      ([0xf0, 0x8f, 0xbf, 0xbf], "\u{f0}\u{8f}\u{bf}\u{bf}"), ([0xff, 0xc3, 0xa9], "\u{ff}é"),
    ] as [([UInt8], String)])
  func notUTF8(key: [UInt8], expected: String) throws {
    #expect(try parsed(key).key == expected)
  }
}
