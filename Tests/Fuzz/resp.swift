// What comes from clients and from Redis, compiled together with Sources/Server/Protocol: see `run`.
//
// Not only must nothing trap: a request that comes in pieces must be read like one that comes whole, a long one that
// is passed on must end where the parser says, and a reply that is passed on must end where it ends when collected.

/// What a parser made of some bytes: the commands, each as its arguments, and how it went on.
private struct Reading: Equatable {
  var commands: [[[UInt8]]] = []
  var consumed = 0
  var error: [UInt8]?
}

/// Hands the bytes to the parser as the event loop does; `pieces`: how many more of them each time.
private func read(_ bytes: UnsafeRawBufferPointer, isLocked: Bool, pieces: (Int) -> Int) -> Reading {
  var reading = Reading()
  var parser = RequestParser(isLocked: isLocked)
  var there = 0
  while there < bytes.count {
    there = min(bytes.count, there + max(1, pieces(there)))
    var goesOn = true
    while goesOn {
      let waiting = UnsafeRawBufferPointer(rebasing: bytes[reading.consumed..<there])
      var arguments: [Argument] = []
      switch parser.next(waiting, into: &arguments) {
      case .command(let length):
        arguments.withUnsafeBufferPointer { list in
          let request = Request(
            base: waiting.baseAddress!, arguments: list.baseAddress!, count: list.count, length: length)
          reading.commands.append((0..<list.count).map { [UInt8](request[$0]) })
          _ = request.word(0)
          _ = request.integer(list.count - 1)
          var output = IOBuffer(size: 16)
          request.append(to: &output)
        }
        reading.consumed += length
      case .nothing(let length): reading.consumed += length
      case .incomplete: goesOn = false
      case .failed(let error):
        reading.error = error.text
        return reading
      }
    }
  }
  return reading
}

/// Where the first command ends if it is passed on from `cut` on; nil: it does not end, or is none.
private func endPassedOn(_ bytes: UnsafeRawBufferPointer, cut: Int) -> Int? {
  var parser = RequestParser()
  var arguments: [Argument] = []
  guard case .incomplete = parser.next(UnsafeRawBufferPointer(rebasing: bytes[..<cut]), into: &arguments),
    var rest = parser.rest(after: cut)
  else { return nil }
  var at = cut - rest.begun
  var there = cut
  while true {
    switch rest.take(UnsafeRawBufferPointer(rebasing: bytes[at..<there])) {
    case .end(let count): return at + count
    case .failed: return nil
    case .part(let count):
      at += count
      if there == bytes.count { return nil }
      there = min(bytes.count, there + 3)
    }
  }
}

/// The lengths of the replies in these bytes; `passes`: whether what has come is handed on at once. nil at the end:
/// malformed.
private func replies(_ bytes: UnsafeRawBufferPointer, step: Int, passes: Bool) -> [Int?] {
  var scanner = ReplyScanner()
  var lengths: [Int?] = []
  var (start, there, passed) = (0, 0, 0)
  while there < bytes.count {
    there = min(bytes.count, there + step)
    var goesOn = true
    while goesOn {
      switch scanner.next(UnsafeRawBufferPointer(rebasing: bytes[start..<there])) {
      case .complete(let length):
        lengths.append(passed + length)
        start += length
        passed = 0
        goesOn = start < there
      case .incomplete:
        if passes {
          passed += scanner.position
          start += scanner.position
          scanner.passed()
        }
        goesOn = false
      case .malformed: return lengths + [nil]
      }
    }
  }
  return lengths
}

@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ pointer: UnsafePointer<UInt8>?, _ count: Int) -> CInt {
  guard let pointer, count > 1 else { return 0 }
  let seed = Int(pointer[0])
  let bytes = UnsafeRawBufferPointer(start: pointer + 1, count: count - 1)
  let isLocked = seed & 1 == 1
  let whole = read(bytes, isLocked: isLocked) { _ in bytes.count }
  let pieces = read(bytes, isLocked: isLocked) { ($0 &* 7 &+ seed) % 5 + 1 }
  precondition(whole.commands == pieces.commands, "pieces are read as other commands")
  // How much of a line has come decides which of two errors it gets, and when.
  precondition(whole.error == nil || pieces.error != nil, "pieces are read without an error")
  if !isLocked, let first = whole.commands.first, !first.isEmpty, bytes[0] == UInt8(ascii: "*") {
    let single = read(bytes, isLocked: false) { _ in 1 }
    precondition(single.commands.first == first)
    var parser = RequestParser()
    var arguments: [Argument] = []
    if case .command(let length) = parser.next(bytes, into: &arguments),
      let end = endPassedOn(bytes, cut: seed % bytes.count)
    {
      precondition(end == length, "a command that is passed on ends elsewhere")
    }
  }
  let collected = replies(bytes, step: bytes.count, passes: false)
  precondition(
    collected == replies(bytes, step: seed % 7 + 1, passes: true), "a reply passed on ends elsewhere")
  var cursor = ReplyCursor(bytes)
  for _ in 0..<32 where !cursor.atEnd {
    switch seed % 4 {
    case 0: _ = cursor.raw()
    case 1: _ = cursor.string()
    case 2: _ = cursor.integer()
    default: if cursor.enter() == nil { _ = cursor.raw() }
    }
    _ = cursor.isError
    _ = cursor.isNull
  }
  return 0
}
