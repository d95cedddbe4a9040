import Glibc

/// A command as it lies in the input buffer; valid only while it is being executed.
struct Request {
  let base: UnsafeRawPointer
  let arguments: UnsafePointer<Argument>
  let count: Int
  /// The bytes of the whole command.
  let length: Int

  @inline(__always)
  subscript(index: Int) -> UnsafeRawBufferPointer {
    let argument = arguments[index]
    return UnsafeRawBufferPointer(start: base + Int(argument.offset), count: Int(argument.length))
  }

  func text(_ index: Int) -> String { String(decoding: self[index], as: UTF8.self) }

  /// An argument in lower case, for options and subcommands.
  func word(_ index: Int) -> String { text(index).lowercased() }

  func integer(_ index: Int) -> Int? { RequestParser.number(self[index]) }

  var isInline: Bool { base.load(as: UInt8.self) != UInt8(ascii: "*") }

  /// The command in the form that Redis takes in the middle of a pipeline.
  func append(to output: inout IOBuffer) {
    guard isInline else { return output.append(UnsafeRawBufferPointer(start: base, count: length)) }
    output.array(count)
    for index in 0..<count { output.bulk(self[index]) }
  }

  @inline(__always)
  func isNamed(_ name: StaticString) -> Bool {
    equalsIgnoringCase(self[0], name)
  }

  func isWord(_ index: Int, _ word: StaticString) -> Bool { equalsIgnoringCase(self[index], word) }
}

/// Whether `bytes` are `word`, which is in lower case and letters only.
@inline(__always)
func equalsIgnoringCase(_ bytes: UnsafeRawBufferPointer, _ word: StaticString) -> Bool {
  guard bytes.count == word.utf8CodeUnitCount else { return false }
  for at in 0..<bytes.count where bytes[at] | 0x20 != word.utf8Start[at] { return false }
  return true
}
