import Configuration

/// What `top` shows, as lines for a terminal of a given width, from two answers of /status: it does no I/O.
struct TopFrame {
  enum Style { case plain, heading, good, warning, bad }

  struct Line: Equatable {
    var text: String
    var style = Style.plain
  }

  let now: JSONNode
  /// The answer before; nil: there is none, and rates are not shown.
  let before: JSONNode?
  /// What an answer that did not come says; nil: it came.
  var trouble: String?
  /// Columns.
  let width: Int

  private static let nameColumn = 14
  static let narrowest = 24

  /// The lines, none of them longer than the width.
  var lines: [Line] {
    let blocks = [head, body, caches, clients, hotKeys].filter { !$0.isEmpty }
    return blocks.enumerated().flatMap { $0 == 0 ? $1 : [Line(text: "")] + $1 }.map {
      Line(text: Self.cut($0.text, max(width, Self.narrowest)), style: $0.style)
    }
  }

  /// Seconds between the two answers by the sidecar's own clock; nil: it has begun anew, or there is one only.
  private var seconds: Double? {
    guard let before, before["pid"]?.number == now["pid"]?.number,
      let a = Figures.real(before["uptime_seconds"]), let b = Figures.real(now["uptime_seconds"]), b > a
    else { return nil }
    return b - a
  }

  // MARK: Parts

  private var head: [Line] {
    let place = Figures.text(now["listen"]?["unix"])
    let title =
      "nearside \(Figures.text(now["version"]))  \(now["namespace"]?.string ?? "")  \(Figures.text(now["role"])), "
      + "\(Figures.text(now["standing"])), up \(Figures.duration(Figures.real(now["uptime_seconds"]) ?? 0))"
    let state = now["health"]?["state"]?.string ?? "-"
    let style: Style = state == "ok" ? .good : state == "warning" ? .warning : .bad
    var lines = [Line(text: Figures.safe(title), style: .heading)]
    lines.append(Line(text: "\(Self.name("health"))\(state)  \(Figures.safe(place))", style: style))
    if let trouble { lines.append(Line(text: Figures.safe(trouble), style: .bad)) }
    for problem in now["health"]?["problems"]?.elements ?? [] {
      let isBad = problem["severity"]?.string == "error"
      lines.append(
        Line(
          text: Figures.safe("\(isBad ? "✗" : "!") \(Figures.text(problem["what"]))"),
          style: isBad ? .bad : .warning))
    }
    return lines
  }

  private struct Reads {
    var near = 0
    var redis = 0
    var missed = 0
    var all: Int { near + redis + missed }

    init() {}

    init(_ cache: JSONNode?) {
      near = Figures.sum(cache, "hit", "negative_hit", "stale")
      redis = Figures.sum(cache, "redis_hit")
      missed = Figures.sum(cache, "miss", "bypass")
    }

    static func + (a: Reads, b: Reads) -> Reads {
      var sum = a
      sum.near += b.near
      sum.redis += b.redis
      sum.missed += b.missed
      return sum
    }

    /// What has come since; everything, if the sidecar has begun anew.
    func since(_ earlier: Reads) -> Reads {
      guard near >= earlier.near, redis >= earlier.redis, missed >= earlier.missed else { return self }
      var rest = self
      rest.near -= earlier.near
      rest.redis -= earlier.redis
      rest.missed -= earlier.missed
      return rest
    }
  }

  private func reads(_ status: JSONNode?) -> Reads {
    (status?["caches"]?.elements ?? []).reduce(Reads()) { $0 + Reads($1) }
  }

  private var body: [Line] {
    // Of the last moment if anything was read in it, and otherwise since the start.
    var recent = seconds == nil ? reads(now) : reads(now).since(reads(before))
    var since = ""
    let rate = seconds.map { Figures.rate(Double(recent.all) / $0) }
    if recent.all == 0 || seconds == nil {
      recent = reads(now)
      since = recent.all == 0 ? "" : " since the start"
    }
    var lines = [
      Line(
        text: Self.name("reads")
          + "\(rate ?? "-") /s   near \(Figures.share(recent.near, recent.all))   Redis "
          + "\(Figures.share(recent.redis, recent.all))   miss \(Figures.share(recent.missed, recent.all))\(since)"
      )
    ]
    lines.append(freshness)
    lines.append(lag)
    let near = now["near"]
    lines.append(
      Line(
        text: Self.name("near memory") + bar(near?["bytes"], near?["limit_bytes"])
          + "\(Figures.size(near?["bytes"])) of \(Figures.size(near?["limit_bytes"])), "
          + "\(Figures.count(Figures.sum(near, "entries"))) entries"))
    let process = now["process"]
    var cpu = ""
    if let seconds, let a = Figures.real(before?["process"]?["cpu_seconds"]),
      let b = Figures.real(process?["cpu_seconds"])
    {
      cpu = ", \(Figures.tenths(max(0, b - a) / seconds * 100)) % of a processor"
    }
    lines.append(Line(text: Self.name("process") + Figures.size(process?["resident_bytes"]) + cpu))
    return lines
  }

  private var freshness: Line {
    let staleness = now["staleness"]
    let bound = Figures.real(staleness?["bound_seconds"]) ?? 0
    guard let age = Figures.real(staleness?["seconds"]) else {
      return Line(
        text: Self.name("staleness") + "no evidence yet; at most \(Figures.seconds(bound))", style: .bad)
    }
    return Line(
      text: Self.name("staleness") + bar(staleness?["seconds"], staleness?["bound_seconds"])
        + "\(Figures.seconds(age)) of at most \(Figures.seconds(bound))",
      style: age <= bound ? .plain : .bad)
  }

  private var lag: Line {
    let replication = now["replication"]
    var parts: [String] = []
    if let seconds = Figures.real(replication?["lag_seconds"]) { parts.append(Figures.seconds(seconds)) }
    if let bytes = Figures.real(replication?["lag_bytes"]) { parts.append(Figures.size(bytes) + " of log") }
    if parts.isEmpty { parts.append("the tailer's, on another host") }
    let applied = replication?["applied"]?.string ?? "-"
    return Line(text: Self.name("lag") + parts.joined(separator: ", ") + "; applied up to \(applied)")
  }

  private var caches: [Line] {
    let all = now["caches"]?.elements ?? []
    guard !all.isEmpty else { return [] }
    var columns = ["reads/s", "near", "Redis", "miss", "entries", "memory"]
    // From the right the columns go that the terminal has no room for.
    let columnWidth = 11
    let most = max(1, (width - 20) / columnWidth)
    columns = Array(columns.prefix(most))
    let nameWidth = max(12, width - columns.count * columnWidth)
    func row(_ name: String, _ cells: [String]) -> String {
      Self.padded(Self.cut(Figures.safe(name), nameWidth - 1), nameWidth)
        + cells.prefix(columns.count).map { Self.right($0, columnWidth) }.joined()
    }
    var lines = [Line(text: row("template", columns), style: .heading)]
    let known = before?["caches"]?.elements ?? []
    for cache in all {
      let name = cache["cache"]?.string ?? "-"
      let reads = Reads(cache)
      let old = known.first { $0["cache"]?.string == name }
      var recent = seconds == nil ? reads : reads.since(Reads(old))
      let rate = seconds.map { Figures.rate(Double(recent.all) / $0) } ?? "-"
      if recent.all == 0 { recent = reads }
      lines.append(
        Line(
          text: row(
            name,
            [
              rate, Figures.share(recent.near, recent.all), Figures.share(recent.redis, recent.all),
              Figures.share(recent.missed, recent.all), Figures.count(Figures.sum(cache, "entries")),
              Figures.size(cache["bytes"]),
            ])))
    }
    return lines
  }

  private var clients: [Line] {
    let clients = now["clients"]
    var counts: [(name: String, count: Int)] = []
    for library in clients?["by_library"]?.elements ?? [] {
      let words = [library["lib"]?.string, library["version"]?.string].compactMap { $0 }.filter {
        !$0.isEmpty
      }
      let name = words.isEmpty ? "no name given" : words.joined(separator: " ")
      let count = Figures.sum(library, "clients")
      if let index = counts.firstIndex(where: { $0.name == name }) {
        counts[index].count += count
      } else {
        counts.append((name, count))
      }
    }
    counts.sort { ($1.count, $0.name) < ($0.count, $1.name) }
    let head =
      "clients: \(Figures.count(Figures.sum(clients, "now"))) of at most \(Figures.count(Figures.sum(clients, "limit")))"
    guard !counts.isEmpty else { return [Line(text: head, style: .heading)] }
    // As many on a line as there is room for.
    var lines: [String] = []
    for entry in counts {
      let text = Figures.safe("\(entry.name) × \(entry.count)")
      if let last = lines.last, last.count + text.count + 5 <= width {
        lines[lines.count - 1] += "   " + text
      } else {
        lines.append("  " + text)
      }
    }
    return [Line(text: head, style: .heading)] + lines.map { Line(text: $0) }
  }

  private static let mostHotKeys = 10

  private var hotKeys: [Line] {
    let keys = (now["hot_keys"]?.elements ?? []).prefix(Self.mostHotKeys)
    guard !keys.isEmpty else { return [] }
    let hits = seconds.map { Double(reads(now).since(reads(before)).near) / $0 }
    var lines = [Line(text: "hottest keys, from one in 1024 near hits of the last minutes", style: .heading)]
    for key in keys {
      let share = Figures.real(key["share"]) ?? 0
      var figures = Self.right(Figures.share(share), 9)
      if let hits, width >= 50 { figures = Self.right("≈ \(Figures.rate(hits * share)) /s", 14) + figures }
      let room = max(8, width - figures.count)
      lines.append(
        Line(text: Self.padded(Self.cut(Figures.safe(Figures.text(key["key"])), room - 1), room) + figures))
    }
    return lines
  }

  // MARK: Text

  private static func name(_ text: String) -> String { padded(text, nameColumn) }

  /// A bar of ten places, where there is room for one.
  private func bar(_ part: JSONNode?, _ whole: JSONNode?) -> String {
    guard width >= 70, let part = Figures.real(part), let whole = Figures.real(whole), whole > 0 else {
      return ""
    }
    let full = min(10, Int((part / whole * 10).rounded()))
    return String(repeating: "▮", count: full) + String(repeating: "▯", count: 10 - full) + "  "
  }

  private static func padded(_ text: String, _ width: Int) -> String {
    text + String(repeating: " ", count: max(0, width - text.count))
  }

  private static func right(_ text: String, _ width: Int) -> String {
    String(repeating: " ", count: max(1, width - text.count)) + text
  }

  private static func cut(_ text: String, _ width: Int) -> String {
    guard text.count > width else { return text }
    return String(text.prefix(max(0, width - 1))) + "…"
  }
}
