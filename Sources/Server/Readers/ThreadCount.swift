import CLinux

/// How many threads serve clients.
enum ThreadCount {
  /// What is configured, or half of the processors that this process may use, at least one and at most four: the
  /// application has the rest.
  static func chosen(_ configured: Int?) -> Int { configured ?? max(1, min(4, Int(clinux_processors()) / 2)) }
}
