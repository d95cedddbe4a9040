import Glibc
import TestSupport

/// The requests that some cache was asked in earnest, from a file: each line is a key, in the order of the requests.
struct Trace {
  /// The file's name.
  let name: String
  /// Keys as numbers from 0, in the order of their first requests.
  private(set) var requests: [Int32] = []
  private(set) var keys = 0

  init(file: String) throws {
    name = file.split(separator: "/").last.map { String($0) } ?? file
    guard let stream = fopen(file, "r") else {
      throw HarnessError("the trace \(file) cannot be read: \(String(cString: strerror(errno)))")
    }
    defer { fclose(stream) }
    var numbers: [[UInt8]: Int32] = [:]
    var line: UnsafeMutablePointer<CChar>?
    var room = 0
    defer { free(line) }
    while case let length = getline(&line, &room, stream), length > 0 {
      guard let line else { break }
      let key = UnsafeRawBufferPointer(start: line, count: length).filter { $0 > 32 }
      guard !key.isEmpty else { continue }
      let next = Int32(numbers.count)
      let number = numbers[key] ?? next
      if number == next { numbers[key] = next }
      requests.append(number)
    }
    keys = numbers.count
    guard keys >= 1000 else {
      throw HarnessError("the trace \(file) has \(keys) keys; with fewer than 1000 nothing can be told")
    }
  }
}
