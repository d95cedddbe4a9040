import Glibc
import TestSupport

/// What processes have cost so far. Source: proc(5).
enum ProcessCost {
  /// Nanoseconds on a processor, of all threads that live; the threads of a server under load do.
  static func nanoseconds(_ pids: [pid_t]) -> UInt64 {
    var sum: UInt64 = 0
    for pid in pids {
      for task in entries("/proc/\(pid)/task") {
        let line = readFile("/proc/\(pid)/task/\(task)/schedstat") ?? ""
        sum += line.split(separator: " ").first.flatMap { UInt64($0) } ?? 0
      }
    }
    return sum
  }

  /// Resident bytes.
  static func resident(_ pids: [pid_t]) -> Int {
    pids.reduce(0) { sum, pid in
      let pages = (readFile("/proc/\(pid)/statm") ?? "").split(separator: " ").dropFirst().first
      return sum + (pages.flatMap { Int($0) } ?? 0) * Int(sysconf(Int32(_SC_PAGESIZE)))
    }
  }

  /// The most that has been resident at a time since the start, in bytes.
  static func peak(_ pids: [pid_t]) -> Int {
    pids.reduce(0) { sum, pid in
      let line = (readFile("/proc/\(pid)/status") ?? "").split(separator: "\n").first {
        $0.hasPrefix("VmHWM")
      }
      return sum + (line?.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0) * 1024
    }
  }

  static func entries(_ folder: String) -> [String] {
    guard let directory = opendir(folder) else { return [] }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names
  }
}

/// Binds processes to processors.
///
/// Server and generator on processors of their own disturb each other least. A machine with one processor has no such
/// choice.
enum Pinning {
  static let processors = Int(sysconf(Int32(_SC_NPROCESSORS_ONLN)))

  static func pinGenerator() throws {
    guard processors > 1 else { return }
    try succeed(["taskset", "-cp", "1", String(getpid())])
  }
}
