import ArgumentParser
import Configuration
import Glibc

/// `--config FILE|-`, and what comes of it.
struct ConfigurationOption: ParsableArguments {
  @Option(
    name: .customLong("config"),
    help: ArgumentHelp(
      "The configuration file; - reads it from standard input. Default: $NEARSIDE_CONFIG, else /etc/nearside/config.json.",
      valueName: "FILE"))
  var file: String?

  /// Whether somebody has said which one is meant.
  var isNamed: Bool { file != nil || Environment.value("NEARSIDE_CONFIG") != nil }

  private var path: String {
    file ?? Environment.value("NEARSIDE_CONFIG") ?? "/etc/nearside/config.json"
  }

  /// A configuration that can be used, and its text for messages that name a place in it.
  struct Loaded {
    var settings: Settings
    var source: SourceText
    /// What its author should know, with places; empty: nothing.
    var warnings: String
  }

  /// Reads the configuration. One that cannot be used ends the process with EX_CONFIG after every error in it
  /// has been shown.
  func load() throws -> Loaded {
    switch source.read(outcome: "Nothing was started.") {
    case .success(let loaded):
      if !loaded.warnings.isEmpty { Output.error(loaded.warnings) }
      return loaded
    case .failure(let unusable):
      Output.error(unusable.text)
      throw ExitCode(ExitStatus.configuration)
    }
  }

  var source: ConfigurationFile { ConfigurationFile(path: path) }
}

/// Where the configuration stands.
struct ConfigurationFile: Sendable {
  /// `-` is standard input.
  var path: String

  var isStandardInput: Bool { path == "-" }

  /// Why it cannot be used: every error in it, with its place.
  struct Unusable: Error { var text: String }

  /// - Parameter outcome: a sentence behind the errors.
  func read(outcome: String = "") -> Result<ConfigurationOption.Loaded, Unusable> {
    let name = isStandardInput ? "<stdin>" : path
    guard let text = isStandardInput ? Files.read(descriptor: 0) : Files.read(path) else {
      return .failure(
        Unusable(
          text: "Cannot read \(name): \(String(cString: strerror(errno))). Give the file with --config."))
    }
    let reading = ConfigurationReader.read(
      text, file: name, environment: Environment.all(), readFile: { Files.read($0) })
    guard let settings = reading.settings else {
      return .failure(Unusable(text: reading.report.text(outcome: outcome)))
    }
    let warnings = reading.diagnostics.isEmpty ? "" : reading.report.text(outcome: "")
    return .success(
      ConfigurationOption.Loaded(settings: settings, source: reading.source, warnings: warnings))
  }
}

/// Exit codes of sysexits.h, as swift-argument-parser uses them for wrong arguments (64).
enum ExitStatus {
  /// `check` found something against a database.
  static let findings: Int32 = 1
  /// EX_DATAERR: the row given to `explain`.
  static let data: Int32 = 65
  /// EX_UNAVAILABLE: PostgreSQL or Redis.
  static let unavailable: Int32 = 69
  /// EX_SOFTWARE.
  static let bug: Int32 = 70
  /// EX_CANTCREAT: the socket.
  static let cannotCreate: Int32 = 73
  /// EX_NOPERM: a right is missing.
  static let permission: Int32 = 77
  /// EX_CONFIG.
  static let configuration: Int32 = 78
}

enum Environment {
  static func value(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

  static func all() -> [String: String] {
    var values: [String: String] = [:]
    var entry = environ
    while let text = entry.pointee {
      let line = String(cString: text)
      if let equals = line.firstIndex(of: "=") {
        values[String(line[..<equals])] = String(line[line.index(after: equals)...])
      }
      entry += 1
    }
    return values
  }
}

enum Files {
  static func read(_ path: String) -> [UInt8]? {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    return read(descriptor: descriptor)
  }

  static func write(_ text: String, descriptor: Int32) { write(Array(text.utf8), descriptor: descriptor) }

  static func write(_ bytes: [UInt8], descriptor: Int32) {
    bytes.withUnsafeBytes { bytes in
      var rest = bytes
      while !rest.isEmpty {
        let count = Glibc.write(descriptor, rest.baseAddress, rest.count)
        if count < 0, errno == EINTR { continue }
        guard count > 0 else { return }
        rest = UnsafeRawBufferPointer(rebasing: rest[count...])
      }
    }
  }

  static func read(descriptor: Int32) -> [UInt8]? {
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 16 * 1024)
    while true {
      let count = Glibc.read(descriptor, &chunk, chunk.count)
      guard count > 0 else { return count == 0 ? bytes : nil }
      bytes.append(contentsOf: chunk[..<count])
    }
  }
}

enum Output {
  /// A line for the person, on standard error.
  static func error(_ text: String) {
    let line = text.hasSuffix("\n") ? text : text + "\n"
    Files.write(line, descriptor: STDERR_FILENO)
  }
}
