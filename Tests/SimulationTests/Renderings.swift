import Invalidation
import TestSupport

@testable import simulate

/// One form for what the twin and the real server answered and hold. Ids of the journal depend on the
/// server's clock, so they are shown by their place in it.
extension Comparison {
  static func hex(_ timeline: UInt32) -> String {
    let digits = String(timeline, radix: 16)
    return String(repeating: "0", count: 8 - digits.utf8.count) + digits
  }

  /// A real reply. Ids, which are all of the form digits-digits, are left out.
  static func line(_ reply: Reply) -> String {
    switch reply {
    case .simple(let text): "+" + text
    case .error(let text): "-" + text.prefix { $0 != " " }
    case .integer(let value): ":\(value)"
    case .null, .nullArray: "nil"
    case .array(let all): "[" + all.map(line).joined(separator: " ") + "]"
    default:
      isID(reply.text ?? "")
        ? "id" : reply.text == "" ? "''" : reply.text.map { packed($0) { _ in "id" } ?? $0 } ?? "?"
    }
  }

  /// Packed names, of which those that are ids are shown as `show` says; nil: it is something else.
  static func packed(_ text: String, _ show: (String) -> String) -> String? {
    guard text.utf8.first == 0, let names = PackedKeys(bytes: Array(text.utf8)) else { return nil }
    var all: [String] = []
    names.forEach { all.append(String(decoding: $0, as: UTF8.self)) }
    return "(" + all.map { isID($0) ? show($0) : $0 }.joined(separator: " ") + ")"
  }

  static func line(_ pending: PendingGroups) -> String {
    line(.bulk(Array(pending.packed.bytes)))
  }

  static func isID(_ text: String) -> Bool { JournalID(text) != nil }

  static func line(_ answer: ModelRedis.Answer) -> String {
    switch answer {
    case .null: "nil"
    case .integer(let value): ":\(value)"
    case .bulk(let text): text.isEmpty ? "''" : text
    case .status(let text): "+" + text
    case .error(let code): "-" + code
    }
  }

  static func line(_ found: ModelRedis.Found) -> String {
    let h = found.h.map { "\($0)" } ?? "nil"
    return "\(found.g?.hex ?? "nil") \(h) \(found.W?.hex ?? "nil") \(found.jl == nil ? "nil" : "id")"
  }

  static func line(_ reply: ModelRedis.RemovalReply) -> String {
    if let error = reply.error { return "-" + error }
    return
      "[\(reply.word.rawValue) \(line(reply.reply)) \(reply.g?.hex ?? "nil") \(reply.jl == nil ? "nil" : "id")]"
  }

  static func line(_ reply: ModelRedis.TailerReply) -> String {
    switch reply {
    case .noState: "[NOSTATE]"
    case .fenced(let g): "[FENCED \(g.hex)]"
    case .regressed(let n, let w): "[REGRESSED \(n)\(w.map { " " + $0.hex } ?? "")]"
    case .applied(let w, let v, let asked, let pending):
      "[OK \(w.hex) \(v.hex) \(asked.map(String.init) ?? "''") \(line(pending))]"
    case .swept(let left): "[OK \(line(left))]"
    case .takenOver(let g, let w, let v, let n, let h, _, let wt, let c):
      "[OK \(g.hex) \(w.hex) \(v.hex) \(n) \(h) id \(wt ? "1" : "0") \(c?.hex ?? "''")]"
    case .otherSystem(let system): "[SYSID \(system)]"
    case .olderTimeline(let timeline): "[OLDTL \(hex(timeline))]"
    case .needsGeneration(let g, let timeline, let mapping): "[NEEDGEN \(g.hex) \(hex(timeline)) \(mapping)]"
    case .raced(let g): "[RACE \(g?.hex ?? "''")]"
    case .began, .cleared: "[OK]"
    case .purgeStep(let cursor, let removed): "[OK \(cursor) :\(removed)]"
    case .error(let code): "-" + code
    }
  }
}

extension ModelRedis {
  static var emptyHash: String {
    var redis = ModelRedis()
    redis.meta = .present(Meta())
    return redis.description
  }

  /// Everything it holds, as text.
  var description: String {
    var lines: [String] = []
    switch meta {
    case .missing: break
    case .otherType: lines.append("M other")
    case .present(let m):
      var fields: [String: String] = [:]
      fields["g"] = m.g?.hex
      fields["c"] = m.c?.hex
      fields["tok"] = m.tok
      fields["ep"] = m.ep.map(String.init)
      fields["n"] = m.n.map { String($0) }
      fields["h"] = m.h.map { String($0) }
      fields["W"] = m.W?.hex
      fields["V"] = m.V?.hex
      fields["F"] = m.F?.hex
      fields["d"] = m.d.map { LSN($0).hex }
      fields["dc"] = m.dc.map { String($0) }
      fields["jl"] = m.jl.map { place($0, in: m.g) }
      fields["wt"] = m.wt.map { $0 ? "1" : "0" }
      fields["sys"] = m.sys
      fields["tl"] = m.tl.map { Comparison.hex($0) }
      fields["cfg"] = m.cfg
      fields["fp"] = m.fp
      fields["req"] = m.req.map(String.init)
      let pending = m.pending.packed.bytes
      fields["pd"] =
        m.pd == nil
        ? nil
        : Comparison.packed(String(decoding: pending, as: UTF8.self)) { id in
          JournalID(id).map { place($0, in: m.g) } ?? id
        }
      fields["s"] = m.s.map { String($0) }
      for (bucket, fence) in m.fences { fields["b\(bucket)"] = fence.hex }
      lines.append("M " + fields.map { "\($0)=\($1)" }.sorted().joined(separator: " "))
    }
    for (generation, slot) in journals {
      switch slot {
      case .missing: break
      case .otherType: lines.append("J \(generation.hex) other")
      case .present(let journal):
        let entries = journal.entries.map { entry in
          let keys = entry.keys.map { String(decoding: $0.bytes, as: UTF8.self) } ?? "none"
          let groups = String(decoding: entry.groups.bytes, as: UTF8.self)
          return "(\(place(entry.previous, in: generation)) \(entry.position.hex) \(keys) \(groups))"
        }
        let ends = journal.expires == nil ? "" : " ends"
        lines.append("J \(generation.hex)\(ends) \(entries.joined())")
      }
    }
    for (key, value) in values {
      lines.append("\(key) \(value.text ?? "other")\(value.expires == nil ? "" : " ends")")
    }
    return lines.sorted().joined(separator: "\n")
  }

  private func place(_ id: JournalID, in generation: Generation?) -> String {
    guard let generation, case .present(let journal)? = journals[generation] else {
      return id == .zero ? "0" : "?"
    }
    return RealState.place(id.description, journal.entries.map(\.id.description))
  }
}

/// The same text from a real server.
enum RealState {
  /// Everything in the database, in one reply.
  static let script = """
    local all={}
    for _,k in ipairs(redis.call('KEYS','*')) do
      local t=redis.call('TYPE',k).ok
      local v=false
      if t=='hash' then v=redis.call('HGETALL',k)
      elseif t=='stream' then v=redis.call('XRANGE',k,'-','+')
      elseif t=='string' then v=redis.call('GET',k) end
      all[#all+1]={k,t,v,redis.call('PTTL',k)}
    end
    return all
    """

  static func describe(_ reply: Reply) -> String {
    var journals: [String: [String]] = [:]
    for item in reply.elements ?? [] {
      guard let parts = item.elements, parts[1].text == "stream", let name = parts[0].text else { continue }
      journals[name] = (parts[2].elements ?? []).map { $0.elements?.first?.text ?? "" }
    }
    var lines: [String] = []
    for item in reply.elements ?? [] {
      guard let parts = item.elements, let name = parts[0].text, let type = parts[1].text else { continue }
      let ends = (parts[3].integerValue ?? 0) >= 0 ? " ends" : ""
      if name == "nearside:{s}:m" {
        lines.append(type == "hash" ? meta(parts[2], journals) : "M other")
      } else if name.hasPrefix("nearside:{s}:j:") {
        let generation = String(name.suffix(16))
        lines.append(
          type == "stream"
            ? "J \(generation)\(ends) \(journal(parts[2], journals[name] ?? []))"
            : "J \(generation) other")
      } else {
        lines.append("\(name) \(type == "string" ? parts[2].text ?? "" : "other")\(ends)")
      }
    }
    return lines.sorted().joined(separator: "\n")
  }

  private static func meta(_ reply: Reply, _ journals: [String: [String]]) -> String {
    var fields: [String: String] = [:]
    let pairs = reply.elements ?? []
    for index in stride(from: 0, to: pairs.count, by: 2) {
      fields[pairs[index].text ?? ""] = pairs[index + 1].text ?? ""
    }
    let ids = fields["g"].flatMap { journals["nearside:{s}:j:" + $0] }
    fields["jl"] = fields["jl"].map { place($0, ids) }
    fields["pd"] = fields["pd"].map { Comparison.packed($0) { place($0, ids) } ?? $0 }
    return "M " + fields.map { "\($0)=\($1)" }.sorted().joined(separator: " ")
  }

  private static func journal(_ reply: Reply, _ ids: [String]) -> String {
    (reply.elements ?? []).map { entry in
      let pairs = entry.elements?[1].elements ?? []
      var fields: [String: String] = [:]
      for index in stride(from: 0, to: pairs.count, by: 2) {
        fields[pairs[index].text ?? ""] = pairs[index + 1].text ?? ""
      }
      return
        "(\(place(fields["p"] ?? "", ids)) \(fields["l"] ?? "") \(fields["k"] ?? "none") \(fields["q"] ?? ""))"
    }.joined()
  }

  /// Which entry of a journal an id names.
  static func place(_ id: String, _ ids: [String]?) -> String {
    if id == "0-0" { return "0" }
    return ids?.firstIndex(of: id).map { "#\($0 + 1)" } ?? "?"
  }
}
