import Configuration
import Metrics

/// What `nearside doctor` has found, and how it is shown.
struct DoctorReport {
  struct Group {
    /// For programs: `postgres`, `redis`, `host` or `sidecar`.
    var name: String
    /// For people.
    var title: String
    var findings: [Finding]
  }

  var groups: [Group]
  /// How long it took, in nanoseconds.
  var duration: UInt64

  private var all: [Finding] { groups.flatMap(\.findings) }
  var problems: Int { all.count { $0.severity == .error } }
  var warnings: Int { all.count { $0.severity == .warning } }

  /// 0: nothing is wrong; 69 if the only thing is that a server cannot be reached; 1 otherwise.
  /// - Parameter strict: whether warnings count.
  func exitStatus(strict: Bool) -> Int32 {
    let errors = all.filter { $0.severity == .error }
    if !errors.isEmpty {
      return errors.allSatisfy(\.isTemporary) ? ExitStatus.unavailable : ExitStatus.findings
    }
    return strict && warnings > 0 ? ExitStatus.findings : 0
  }

  /// For a terminal. A line for each thing, what to do about it below.
  func text(coloured: Bool) -> String {
    func mark(_ severity: Finding.Severity) -> String {
      let (sign, colour) =
        switch severity {
        case .good: ("✓", 32)
        case .warning: ("!", 33)
        case .error: ("✗", 31)
        }
      return coloured ? "\u{1b}[\(colour)m\(sign)\u{1b}[0m" : sign
    }
    var text = ""
    for group in groups {
      text += group.title + "\n"
      for finding in group.findings {
        text += "  \(mark(finding.severity)) \(Self.line(finding.what))\n"
        if let fix = finding.fix { text += "      \(fix)\n" }
      }
    }
    return text + summary + "\n"
  }

  private var summary: String {
    let hundredths = duration / 100_000_000
    return "\(problems) problem\(problems == 1 ? "" : "s"), \(warnings) warning\(warnings == 1 ? "" : "s") "
      + "(\(all.count) checks, \(hundredths / 10).\(hundredths % 10) s)"
  }

  private static func line(_ sentence: String) -> String {
    sentence.hasSuffix(".") ? String(sentence.dropLast()) : sentence
  }

  /// One object, the same in every version that says `"schema": 1`.
  var json: String {
    let checks = groups.flatMap { group in
      group.findings.map { finding in
        var members = [
          ("group", group.name), ("check", finding.check), ("result", Self.word(finding.severity)),
          ("what", finding.what),
        ]
        if let fix = finding.fix { members.append(("fix", fix)) }
        return "{" + members.map { "\"\($0)\":\(JSONText.text($1))" }.joined(separator: ",") + "}"
      }
    }
    return
      "{\"schema\":1,\"version\":\(JSONText.text(Version.text)),\"problems\":\(problems),\"warnings\":\(warnings),"
      + "\"milliseconds\":\(duration / 1_000_000),\"checks\":[\(checks.joined(separator: ","))]}\n"
  }

  private static func word(_ severity: Finding.Severity) -> String {
    switch severity {
    case .good: "good"
    case .warning: "warning"
    case .error: "problem"
    }
  }
}
