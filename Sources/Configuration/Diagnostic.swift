/// Something wrong with a configuration, or worth a second look, said so that its author can mend it.
public struct Diagnostic: Hashable, Sendable {
  public enum Severity: String, Sendable { case error, warning }

  public var severity: Severity
  /// nil: it lies outside the file, for example in an environment variable.
  public var place: SourcePlace?
  /// A short stable name for programs, for example `unknown-key`. `ConfigurationCode` lists this module's.
  public var code: String
  /// The keys that lead to it, for example `caches."user:{id}".near`; empty for the whole file.
  public var path: String
  /// One or two plain sentences without a final stop. Never a secret or what an environment variable holds.
  public var message: String
  /// The word that was probably meant.
  public var suggestion: String?

  public init(
    _ severity: Severity = .error, at place: SourcePlace?, code: String, path: String = "",
    message: String, suggestion: String? = nil
  ) {
    self.severity = severity
    self.place = place
    self.code = code
    self.path = path
    self.message = message
    self.suggestion = suggestion
  }

  /// The message with the suggestion, as one sentence.
  public var sentence: String {
    guard let suggestion else { return message }
    return "\(message); did you mean \(quoted(suggestion))?"
  }
}

extension Diagnostic {
  init(
    _ severity: Severity = .error, at place: SourcePlace?, code: ConfigurationCode, path: String = "",
    message: String, suggestion: String? = nil
  ) {
    self.init(
      severity, at: place, code: code.rawValue, path: path, message: message, suggestion: suggestion)
  }
}

/// The codes of the diagnostics that reading a configuration can give.
public enum ConfigurationCode: String, Sendable, CaseIterable {
  case syntax = "json-syntax"
  case tooLarge = "json-too-large"
  case tooDeep = "json-too-deep"
  case duplicateKey = "duplicate-key"
  case unknownKey = "unknown-key"
  case notSupported = "not-supported"
  case wrongType = "wrong-type"
  case badValue = "bad-value"
  case missing = "missing"
  case badReference = "bad-reference"
  case unsetVariable = "unset-variable"
  case unreadableFile = "unreadable-file"
  case badTemplate = "bad-template"
  case givenTwice = "given-twice"
  case noEffect = "no-effect"
}

/// Text in double quotes, with quotes, backslashes and control characters escaped as in JSON, so that
/// nothing in a file can speak to the terminal.
func quoted(_ text: String) -> String {
  var out = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": out += "\\\""
    case "\\": out += "\\\\"
    case "\n": out += "\\n"
    case "\r": out += "\\r"
    case "\t": out += "\\t"
    case _ where isControl(scalar):
      let digits = String(scalar.value, radix: 16)
      out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
    default: out.unicodeScalars.append(scalar)
    }
  }
  return out + "\""
}

/// C0, DEL, C1 and the two Unicode line ends (all below U+10000, so four digits name them).
func isControl(_ scalar: Unicode.Scalar) -> Bool {
  switch scalar.value {
  case 0..<0x20, 0x7f..<0xa0, 0x2028, 0x2029, 0x202a...0x202e, 0x2066...0x2069: true
  default: false
  }
}

/// One step from the root of a JSON text to a value in it.
enum PathStep: Hashable, Sendable {
  case key(String)
  case index(Int)
}

/// `caches."user:{id}".near` or `tables.users[1]`: names that are no plain words are quoted.
func renderedPath(_ steps: [PathStep]) -> String {
  var out = ""
  for step in steps {
    switch step {
    case .index(let index): out += "[\(index)]"
    case .key(let key):
      if !out.isEmpty { out += "." }
      let plain = !key.isEmpty && key.utf8.allSatisfy { isWord($0) || $0 == UInt8(ascii: "$") }
      out += plain ? key : quoted(key)
    }
  }
  return out
}

/// ASCII letters, digits and the underscore.
func isWord(_ byte: UInt8) -> Bool {
  switch byte {
  case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
    UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"):
    true
  default: false
  }
}
