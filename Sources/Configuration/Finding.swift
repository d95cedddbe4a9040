/// One thing that was looked at, and what was found: a line of `nearside doctor`, and of `nearside check` if it is not
/// good.
public struct Finding: Hashable, Sendable, CustomStringConvertible {
  public enum Severity: String, Sendable, CaseIterable {
    /// As it should be.
    case good
    /// It works, at a price, or will not one day.
    case warning
    /// Nearside cannot work, or could serve stale values.
    case error
  }

  /// What was looked at: lower-case letters and underscores, the same in every version, for programs.
  public var check: String
  public var severity: Severity
  /// A sentence.
  public var what: String
  /// What to do about it, a sentence or two; nil where `what` says it.
  public var fix: String?
  /// Whether the role lacks a right.
  public var isMissingRight: Bool
  /// Whether waiting may mend it: a server is down, restarting or slow.
  public var isTemporary: Bool

  public init(
    _ check: String, _ severity: Severity, _ what: String, fix: String? = nil, isMissingRight: Bool = false,
    isTemporary: Bool = false
  ) {
    self.check = check
    self.severity = severity
    self.what = what
    self.fix = fix
    self.isMissingRight = isMissingRight
    self.isTemporary = isTemporary
  }

  public static func good(_ check: String, _ what: String) -> Finding { Finding(check, .good, what) }

  public var isGood: Bool { severity == .good }
  /// What it is and what to do about it.
  public var sentence: String { what + (fix.map { " " + $0 } ?? "") }
  public var description: String { "\(severity.rawValue): \(sentence)" }
}
