import Configuration
import Invalidation
import Metrics
import NearCache

/// What `nearside get` is told of a key. Looking changes nothing that a read would not change.
extension EventLoop {
  /// - Parameter showsValue: whether the value itself is told, too.
  mutating func look(_ key: [UInt8], showsValue: Bool) -> KeyReport {
    // A turn is told by when it began.
    let began = now
    now = clock()
    defer { now = began }
    var report = KeyReport(key: key)
    report.account = account(of: key, reason: nil).compactMap { line in
      guard let colon = line.firstIndex(of: ":") else { return nil }
      return (String(line[..<colon]), String(line[line.index(after: colon)...]))
    }
    report.staleness = certificate.map { now.since($0) }
    report.stalenessBound = settings.staleness.bound
    key.withUnsafeBytes { bytes in
      report.isGoverned = governance.governs(bytes)
      if let rule = governance.rule(bytes) {
        report.template = governance.templates[rule.number - 1]
        report.stalenessBound = rule.staleness.bound
      }
      guard let entry = near.find(bytes, hash: near.hash(bytes), now: now), isCurrent(entry, bytes) else {
        return
      }
      if EntryMark.isAnchor(entry.tag) {
        report.kind = .parts
      } else if EntryMark.isAbsent(entry.tag) {
        report.kind = .absent
      } else if EntryMark.isValue(entry.tag) {
        report.kind = .value
        report.size = entry.valueCount
        report.memory = entry.memory
        if showsValue { report.value = [UInt8](entry.value) }
      }
      report.timeLeft = entry.expires.map { $0.since(now) }
      if report.kind != nil, !clientPause.coversAll, let governed = governedKey(bytes) {
        report.isServed = showsNear(governed, certificate, at: now) != nil
      }
    }
    return report
  }
}
