import Configuration

/// What the sidecar says that runs with a configuration: of the slot if it holds it, of its audit, and of its
/// configuration.
enum SidecarFindings {
  /// nil: none answers.
  static func ask(_ settings: Settings) -> [Finding]? {
    guard let path = settings.admin.socket, let answer = try? AdminClient(path: path).get("/status"),
      answer.status == 200, let status = JSONReader.read(Array(answer.body.utf8)).node
    else { return nil }
    return findings(status)
  }

  /// - Parameter status: what /status answers.
  static func findings(_ status: JSONNode) -> [Finding] {
    var findings: [Finding] = [
      .good(
        "running", "It runs, as process \(status["pid"]?.number ?? "?"), \(status["role"]?.string ?? "?").")
    ]
    if let slot = status["slot"], !slot.isNull {
      let most = mebibytes(slot["bound_bytes"]).map { " of at most \($0) MiB" } ?? ""
      let kept = mebibytes(slot["retained_bytes"]).map { ", keeps \($0) MiB of log\(most)" } ?? ""
      findings += judged(
        status, "slot", "It holds replication slot \(slot["name"]?.string ?? "?")\(kept).")
    }
    findings += judged(status, "audit", audit(status["audit"]))
    findings += judged(status, "configuration", "Its configuration is the one that it read last.")
    return findings
  }

  private static func audit(_ audit: JSONNode?) -> String {
    guard let audit, !audit.isNull else { return "Nothing is audited: no cache has load." }
    guard (audit["share"]?.number.flatMap { Double($0) } ?? 0) > 0 else {
      return "The audit is off (audit.share)."
    }
    return
      "The audit has compared \(audit["samples"]?.number ?? "0") values with the database, and none was stale."
  }

  /// The problems that it tells of one part, or that there is none.
  private static func judged(_ status: JSONNode, _ part: String, _ good: String) -> [Finding] {
    let problems = (status["health"]?["problems"]?.elements ?? []).filter { $0["part"]?.string == part }
    guard !problems.isEmpty else { return [.good("sidecar_" + part, good)] }
    return problems.map {
      Finding(
        "sidecar_" + part, $0["severity"]?.string == "error" ? .error : .warning, $0["what"]?.string ?? "",
        fix: $0["fix"]?.string)
    }
  }

  private static func mebibytes(_ node: JSONNode?) -> Int? {
    node?.number.flatMap { Double($0) }.map { Int($0 / 1_048_576) }
  }
}
