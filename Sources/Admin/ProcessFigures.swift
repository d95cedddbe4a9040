import Glibc
import Metrics

extension ProcessReport {
  /// This process now. Source: proc(5), /proc/self/stat and /proc/self/fd.
  public static func now() -> ProcessReport {
    var report = ProcessReport()
    report.pid = Int(getpid())
    var usage = rusage()
    if getrusage(__rusage_who_t(RUSAGE_SELF.rawValue), &usage) == 0 {
      report.cpu = nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime)
    }
    var limit = rlimit()
    if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 {
      report.mostDescriptors = Int(clamping: limit.rlim_cur)
    }
    report.openDescriptors = descriptors()
    guard let stat = text("/proc/self/stat"), let name = stat.lastIndex(of: ")") else { return report }
    // Behind the program's name: the third field is the first here.
    let fields = stat[stat.index(after: name)...].split(separator: " ")
    guard fields.count > 21 else { return report }
    report.virtual = Int(fields[20])
    report.resident = Int(fields[21]).map { $0 * Int(sysconf(Int32(_SC_PAGESIZE))) }
    if let ticks = Double(fields[19]), let boot = bootTime() {
      report.started = boot + ticks / Double(sysconf(Int32(_SC_CLK_TCK)))
    }
    return report
  }

  private static func nanoseconds(_ time: timeval) -> UInt64 {
    UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_usec) * 1000
  }

  private static func descriptors() -> Int? {
    guard let folder = opendir("/proc/self/fd") else { return nil }
    defer { closedir(folder) }
    var count = 0
    while readdir(folder) != nil { count += 1 }
    // Less `.`, `..` and the folder itself.
    return count - 3
  }

  /// When the system began, in seconds since 1970.
  private static func bootTime() -> Double? {
    guard let stat = text("/proc/stat"),
      let line = stat.split(separator: "\n").first(where: { $0.hasPrefix("btime ") })
    else { return nil }
    return Double(line.dropFirst(6))
  }

  private static func text(_ path: String) -> String? {
    let file = open(path, O_RDONLY | O_CLOEXEC)
    guard file >= 0 else { return nil }
    defer { close(file) }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 16 * 1024)
    while true {
      let count = read(file, &buffer, buffer.count)
      guard count > 0 else { break }
      bytes += buffer[..<count]
    }
    return String(decoding: bytes, as: UTF8.self)
  }
}
