import Glibc

/// Lends the strings as an array of C strings that ends with a null pointer.
func withCStrings<Result>(
  _ strings: [String?], _ body: (UnsafePointer<UnsafePointer<CChar>?>) -> Result
) -> Result {
  let copies = strings.map { $0.map { strdup($0) } ?? nil }
  defer { for copy in copies { free(copy) } }
  var pointers: [UnsafePointer<CChar>?] = copies.map { $0.map { UnsafePointer($0) } }
  pointers.append(nil)
  return pointers.withUnsafeBufferPointer { list in
    guard let base = list.baseAddress else { preconditionFailure("the list has its closing null pointer") }
    return body(base)
  }
}

/// Nanoseconds of a clock that only runs forward; for time limits.
func monotonicNanoseconds() -> UInt64 {
  var now = timespec()
  clock_gettime(CLOCK_MONOTONIC, &now)
  return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
}

/// Microseconds since midnight of 2000-01-01, UTC: PostgreSQL's timestamps on the wire.
func postgresMicroseconds() -> Int64 {
  var now = timespec()
  clock_gettime(CLOCK_REALTIME, &now)
  return (Int64(now.tv_sec) - 946_684_800) * 1_000_000 + Int64(now.tv_nsec) / 1000
}

/// Waits until the socket is readable (or, if asked, writable) or has failed; false when `deadline`, on the
/// monotonic clock, has passed.
func waitForSocket(_ descriptor: Int32, alsoWritable: Bool, deadline: UInt64) -> Bool {
  while true {
    let now = monotonicNanoseconds()
    guard now < deadline else { return false }
    let milliseconds = Int32(clamping: (deadline - now + 999_999) / 1_000_000)
    let events = Int16(POLLIN) | (alsoWritable ? Int16(POLLOUT) : 0)
    var waiting = pollfd(fd: descriptor, events: events, revents: 0)
    // An interrupted wait starts again with what is left of the time.
    if poll(&waiting, 1, milliseconds) > 0 { return true }
  }
}
