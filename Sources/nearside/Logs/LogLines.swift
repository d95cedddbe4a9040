import CLinux
import Configuration
import Glibc
import Logging
import Metrics
import Synchronization

/// Log lines on standard error: text for a terminal, one JSON object a line otherwise. What says the same again and
/// again is folded.
///
/// No value of a row or a cache entry is ever logged, and keys only at debug.
struct LogLines: LogHandler {
  var metadata: Logger.Metadata = [:]
  /// nil: that of the process, which a reload may change.
  private var ownLevel: Logger.Level?
  private let label: String
  private let json: Bool

  /// One line is one write, so that lines of several threads do not mix.
  private static let output = Mutex(RepeatFolder())
  private static let severity = Atomic<Int>(0)

  /// The least severe level that is written.
  static var level: LogSettings.Level {
    get { LogSettings.Level.allCases[severity.load(ordering: .relaxed)] }
    set { severity.store(LogSettings.Level.allCases.firstIndex(of: newValue) ?? 0, ordering: .relaxed) }
  }

  static func bootstrap(_ settings: LogSettings) {
    let json = isJSON(settings)
    level = settings.level
    LoggingSystem.bootstrap { LogLines(label: $0, json: json) }
  }

  private static func isJSON(_ settings: LogSettings) -> Bool {
    switch settings.format {
    case .json: true
    case .text: false
    case .auto: isatty(STDERR_FILENO) == 0
    }
  }

  init(label: String, json: Bool) {
    self.label = label
    self.json = json
  }

  var logLevel: Logger.Level {
    get { ownLevel ?? Logger.Level(rawValue: Self.level.rawValue) ?? .info }
    set { ownLevel = newValue }
  }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    let fields = metadata.merging(event.metadata ?? [:]) { $1 }.map { ($0, "\($1)") }.sorted { $0.0 < $1.0 }
    let text = Self.body(event.message.description, fields, json: json)
    let line = RepeatFolder.Line(level: event.level.rawValue, label: label, text: text)
    let now = clinux_boot_nanoseconds()
    let json = json
    Self.output.withLock { folder in
      Self.write(folder.due(now: now), json: json)
      // Who asks for every detail gets every detail.
      guard event.level < .info || folder.takes(line, now: now) else { return }
      Files.write(Self.line(line, repeated: 0, json: json), descriptor: STDERR_FILENO)
    }
  }

  /// Writes what was held back and is due; called now and then, for lines that nobody logs any more.
  static func flush(_ settings: LogSettings) {
    let json = isJSON(settings)
    output.withLock { write($0.due(now: clinux_boot_nanoseconds()), json: json) }
  }

  private static func write(_ due: [(line: RepeatFolder.Line, count: Int)], json: Bool) {
    for (line, count) in due {
      Files.write(Self.line(line, repeated: count, json: json), descriptor: STDERR_FILENO)
    }
  }

  /// The message and its metadata, as the line has them.
  private static func body(_ message: String, _ fields: [(String, String)], json: Bool) -> String {
    guard json else {
      // One line, and nothing that a terminal obeys.
      let text = message + fields.map { " \($0)=\($1)" }.joined()
      return Figures.safe(text.replacing("\n", with: " "))
    }
    return JSONText.text(message).description
      + fields.map { ",\(JSONText.text($0)):\(JSONText.text($1))" }.joined()
  }

  static func line(_ line: RepeatFolder.Line, repeated: Int, json: Bool) -> String {
    guard json else {
      let count = repeated > 0 ? " repeated=\(repeated)" : ""
      return "\(timestamp()) \(line.level) \(line.label): \(line.text)\(count)\n"
    }
    let count = repeated > 0 ? ",\"repeated\":\(repeated)" : ""
    return "{\"ts\":\"\(timestamp())\",\"level\":\"\(line.level)\",\"component\":\"\(line.label)\",\"msg\":"
      + "\(line.text)\(count)}\n"
  }

  /// RFC 3339 in UTC, with milliseconds.
  private static func timestamp() -> String { WallTime(nanoseconds: clinux_wall_nanoseconds()).text }
}
