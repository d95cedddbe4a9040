import Configuration
import Glibc
import Logging
import Synchronization

/// Log lines on standard error: text for a terminal, one JSON object a line otherwise.
///
/// No value of a row or a cache entry is ever logged, and keys only at debug.
struct LogLines: LogHandler {
  var metadata: Logger.Metadata = [:]
  var logLevel: Logger.Level
  private let label: String
  private let json: Bool
  /// One line is one write, so that lines of several threads do not mix.
  private static let output = Mutex<Void>(())

  static func bootstrap(_ settings: LogSettings) {
    let json =
      switch settings.format {
      case .json: true
      case .text: false
      case .auto: isatty(STDERR_FILENO) == 0
      }
    let level = Logger.Level(rawValue: settings.level.rawValue) ?? .info
    LoggingSystem.bootstrap { LogLines(label: $0, level: level, json: json) }
  }

  init(label: String, level: Logger.Level, json: Bool) {
    self.label = label
    logLevel = level
    self.json = json
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    let fields = metadata.merging(event.metadata ?? [:]) { $1 }
    let line =
      json
      ? jsonLine(event.level, event.message.description, fields)
      : textLine(event.level, event.message.description, fields)
    Self.output.withLock { _ in Files.write(line, descriptor: STDERR_FILENO) }
  }

  private func textLine(_ level: Logger.Level, _ message: String, _ fields: Logger.Metadata) -> String {
    var line = "\(timestamp()) \(level.rawValue) \(label): \(message)"
    for (name, value) in fields.sorted(by: { $0.key < $1.key }) { line += " \(name)=\(value)" }
    return line.replacing("\n", with: " ") + "\n"
  }

  private func jsonLine(_ level: Logger.Level, _ message: String, _ fields: Logger.Metadata) -> String {
    var line =
      "{\"ts\":\"\(timestamp())\",\"level\":\"\(level.rawValue)\",\"component\":\"\(label)\",\"msg\":"
    line += Self.quoted(message)
    for (name, value) in fields.sorted(by: { $0.key < $1.key }) {
      line += ",\(Self.quoted(name)):\(Self.quoted("\(value)"))"
    }
    return line + "}\n"
  }

  /// RFC 3339 in UTC, with milliseconds.
  private func timestamp() -> String {
    var now = timespec()
    clock_gettime(CLOCK_REALTIME, &now)
    var parts = tm()
    gmtime_r(&now.tv_sec, &parts)
    var buffer = [CChar](repeating: 0, count: 32)
    let length = strftime(&buffer, buffer.count, "%Y-%m-%dT%H:%M:%S", &parts)
    let seconds = String(decoding: buffer[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let milliseconds = String(now.tv_nsec / 1_000_000)
    return seconds + "." + String(repeating: "0", count: 3 - milliseconds.count) + milliseconds + "Z"
  }

  private static func quoted(_ text: String) -> String {
    var quoted = "\""
    for scalar in text.unicodeScalars {
      switch scalar {
      case "\"": quoted += "\\\""
      case "\\": quoted += "\\\\"
      case "\n": quoted += "\\n"
      case _ where scalar.value < 0x20:
        let digits = String(scalar.value, radix: 16)
        quoted += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
      default: quoted.unicodeScalars.append(scalar)
      }
    }
    return quoted + "\""
  }
}
