import Glibc

/// Bytes on their way between a socket and the code: appended at the end, consumed at the front.
///
///     0 ..< head      consumed, reclaimed when the buffer next needs room
///     head ..< tail   waiting
///     tail ..< size   free
///
/// Memory is allocated by bytes received, never by a length that a peer declared.
struct IOBuffer: ~Copyable {
  private(set) var base: UnsafeMutableRawPointer
  private(set) var size: Int
  private(set) var head = 0
  private(set) var tail = 0

  init(size: Int = 4096) {
    base = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
    self.size = size
  }

  deinit { base.deallocate() }

  var count: Int { tail - head }
  var isEmpty: Bool { tail == head }
  var readable: UnsafeRawPointer { UnsafeRawPointer(base + head) }
  var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base + head, count: tail - head) }

  /// Makes room for `count` more bytes behind `tail`; moves or grows the waiting bytes if it must.
  @inline(__always)
  mutating func reserve(_ count: Int) {
    if size - tail < count { makeRoom(count) }
  }

  private mutating func makeRoom(_ count: Int) {
    let waiting = tail - head
    if size - waiting >= count, head >= waiting {
      memmove(base, base + head, waiting)
    } else {
      var larger = size
      while larger - waiting < count { larger *= 2 }
      let fresh = UnsafeMutableRawPointer.allocate(byteCount: larger, alignment: 16)
      memcpy(fresh, base + head, waiting)
      base.deallocate()
      base = fresh
      size = larger
    }
    head = 0
    tail = waiting
  }

  @inline(__always)
  mutating func consume(_ count: Int) {
    head += count
    assert(head <= tail)
    if head == tail {
      head = 0
      tail = 0
    }
  }

  /// Takes back what was appended after the buffer held `count` bytes.
  mutating func truncate(to count: Int) { tail = head + count }

  /// Gives memory back after a burst, once nothing waits.
  mutating func shrinkIfIdle(to size: Int) {
    guard isEmpty, self.size > size * 4 else { return }
    base.deallocate()
    base = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
    self.size = size
  }

  @inline(__always)
  mutating func append(_ source: UnsafeRawBufferPointer) {
    guard let start = source.baseAddress else { return }
    reserve(source.count)
    memcpy(base + tail, start, source.count)
    tail += source.count
  }

  /// The free place behind what waits, at least `count` bytes; `filled` says how many were put there.
  @inline(__always)
  mutating func room(_ count: Int) -> UnsafeMutableRawBufferPointer {
    reserve(count)
    return UnsafeMutableRawBufferPointer(start: base + tail, count: size - tail)
  }

  @inline(__always)
  mutating func filled(_ count: Int) {
    tail += count
    assert(tail <= size)
  }

  @inline(__always)
  mutating func append(_ text: StaticString) {
    append(UnsafeRawBufferPointer(start: text.utf8Start, count: text.utf8CodeUnitCount))
  }

  mutating func append(_ text: String) {
    var text = text
    text.withUTF8 { append(UnsafeRawBufferPointer($0)) }
  }

  mutating func append(_ bytes: [UInt8]) { bytes.withUnsafeBytes { append($0) } }

  @inline(__always)
  mutating func append(byte: UInt8) {
    reserve(1)
    base.storeBytes(of: byte, toByteOffset: tail, as: UInt8.self)
    tail += 1
  }

  /// Appends a number in decimal digits.
  mutating func append(number: Int) {
    if number < 0 {
      append(byte: UInt8(ascii: "-"))
      append(magnitude: number.magnitude)
    } else {
      append(magnitude: UInt(number))
    }
  }

  private mutating func append(magnitude: UInt) {
    reserve(20)
    var digits = 1
    var limit: UInt = 10
    while digits < 20, magnitude >= limit {
      digits += 1
      if digits < 20 { limit *= 10 }
    }
    var rest = magnitude
    var at = tail + digits
    repeat {
      at -= 1
      base.storeBytes(of: UInt8(ascii: "0") + UInt8(rest % 10), toByteOffset: at, as: UInt8.self)
      rest /= 10
    } while rest > 0
    tail += digits
  }

  enum Transfer { case some, wouldBlock, closed, failed(Int32) }

  /// Reads once from a socket, at most `limit` bytes. `drained` tells whether the descriptor was seen empty: a stream
  /// socket that returns less than was asked for has no more at that moment.
  mutating func read(from descriptor: Int32, limit: Int, drained: inout Bool) -> Transfer {
    reserve(limit)
    let room = size - tail
    while true {
      // recv(2), not read(2), whose way through the file system takes some 80 ns more.
      let count = Glibc.recv(descriptor, base + tail, room, 0)
      if count > 0 {
        tail += count
        drained = count < room
        return .some
      }
      if count == 0 { return .closed }
      switch errno {
      case EINTR: continue
      case EAGAIN:
        drained = true
        return .wouldBlock
      default: return .failed(errno)
      }
    }
  }

  /// Writes what waits, as far as the descriptor takes it.
  mutating func write(to descriptor: Int32) -> Transfer {
    while head < tail {
      let count = Glibc.send(descriptor, base + head, tail - head, Int32(MSG_NOSIGNAL))
      if count >= 0 {
        consume(count)
        continue
      }
      switch errno {
      case EINTR: continue
      case EAGAIN: return .wouldBlock
      default: return .failed(errno)
      }
    }
    return .some
  }
}
