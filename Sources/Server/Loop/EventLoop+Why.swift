import Glibc
import Invalidation
import Logging
import Metrics
import NearCache

/// NEARSIDE WHY key: what became of a key on this host, and which change of which row took it away.
///
/// All of it comes from this host's memory (`Chronicle`), but for the reason of the generation: the sidecar that
/// began it wrote it beside the state, and any other reads it there.
extension EventLoop {
  mutating func why(_ request: Request, _ slot: Int) {
    let key = [UInt8](request[2])
    guard embedded == nil, sharedUpstream(slot).isReady else {
      let text = Self.text(account(of: key, reason: nil))
      let resp3 = clients[slot].resp3
      return reply(slot) { $0.verbatim(text, resp3: resp3) }
    }
    let (token, meta) = (clients[slot].token, keys.meta)
    withUpstream(slot) { upstream in
      upstream.output.array(3)
      upstream.output.argument("HGET")
      upstream.output.bulk(meta)
      upstream.output.argument("why")
      upstream.await(.task(UpstreamTask(client: token, work: .why(key: key))))
    }
  }

  /// `reply`: nil if Redis could not be asked.
  mutating func finishWhy(_ key: [UInt8], _ reply: UnsafeRawBufferPointer?, _ slot: Int?) {
    var cursor = reply.map { ReplyCursor($0) }
    let text = Self.text(account(of: key, reason: cursor?.text()))
    settle(slot) { output, resp3 in output.verbatim(text, resp3: resp3) }
  }

  /// The tail on this host has begun a generation; the others are told why.
  mutating func noteReason(_ generation: Generation, _ reason: String) {
    generationReason = (generation, reason)
    guard embedded == nil, resp2.isReady else { return }
    resp2.output.array(4)
    resp2.output.argument("HSET")
    resp2.output.bulk(keys.meta)
    resp2.output.argument("why")
    resp2.output.bulk(generation.hex + " " + reason)
    resp2.await(.task(UpstreamTask(client: nil, work: .note)))
  }

  // MARK: The answer

  private static func text(_ lines: [String]) -> String { lines.joined(separator: "\n") + "\n" }

  /// Each is `name:value`. `noted`: what Redis holds of the reason for a generation.
  mutating func account(of key: [UInt8], reason noted: String?) -> [String] {
    key.withUnsafeBytes { bytes in
      let clock = WallClock.now()
      let hash = near.hash(bytes)
      let account = chronicle.account(of: hash, groups: groupHashes(of: bytes))
      var lines = [
        "key:\(Self.shown(bytes, bytes.count))",
        "governed:\(governance.governs(bytes) ? 1 : 0)",
        "near:\(findHeld(bytes, hash: hash) != nil ? 1 : 0)",
      ]
      lines += self.lines(of: account.stored, "fill", clock)
      lines += self.lines(of: account.removal, clock)
      lines.append("refused_fills:\(account.refusals)")
      if let refused = account.refused, let refusal = refused.refusal {
        lines += self.lines(of: refused, "refused", clock)
        lines.append("refused_because:\(refusal.rawValue): \(refusal.explanation)")
      }
      lines.append("generation:\(currentGeneration?.hex ?? "")")
      if let beginning = chronicle.beginning, beginning.generation == currentGeneration {
        lines += times("generation", beginning.at, clock)
        if let reason = reason(for: beginning.generation, noted) {
          lines.append("generation_because:\(reason)")
        }
      }
      return lines
    }
  }

  /// Under what the removal of a group of the key may have been recorded: its tags, and every prefix that it has,
  /// since any may have been named by hand.
  private func groupHashes(of key: UnsafeRawBufferPointer) -> Set<UInt64> {
    var hashes: Set<UInt64> = []
    governance.groups.forEach(of: key) { hashes.insert(near.hash($0)) }
    var prefix = [KeyGroup.prefix]
    for byte in key.prefix(Self.longestNamedPrefix) {
      prefix.append(byte)
      hashes.insert(prefix.withUnsafeBytes { near.hash($0) })
    }
    return hashes
  }

  private static let longestNamedPrefix = 512

  private func lines(of fill: Chronicle.Fill?, _ name: String, _ clock: WallClock) -> [String] {
    guard let fill else { return ["\(name):none"] }
    var lines = ["\(name):\(fill.command.uppercased())"] + times(name, fill.at, clock)
    if let lease = fill.lease {
      lines.append("\(name)_position:\(lease.stamp.visible)")
      lines.append("\(name)_deletions:\(lease.stamp.deletions)")
      lines.append("\(name)_generation:\(lease.generation.hex)")
    }
    return lines
  }

  private func lines(of removal: Chronicle.Removal?, _ clock: WallClock) -> [String] {
    guard let removal else { return ["invalidation:none"] }
    guard let origin = removal.cause.origin else {
      return ["invalidation:application"] + times("invalidation", removal.at, clock)
        + ["invalidation_position:\(removal.cause.position)"]
    }
    var lines =
      ["invalidation:transaction"] + times("invalidation", removal.at, clock) + [
        "invalidation_position:\(removal.cause.position)"
      ]
    // What a lookup found is nobody's in particular.
    if origin.transaction != 0 { lines.append("invalidation_transaction:\(origin.transaction)") }
    if origin.isNamed {
      lines.append("invalidation_function:nearside.invalidate")
    } else if let (table, template) = originNames[origin] {
      lines.append("invalidation_table:\(table)")
      lines.append("invalidation_template:\(template)")
    }
    return lines
  }

  private func times(_ name: String, _ instant: Instant, _ clock: WallClock) -> [String] {
    ["\(name)_at:\(clock.text(instant))", "\(name)_age_ms:\(now.since(instant) / 1_000_000)"]
  }

  private func reason(for generation: Generation, _ noted: String?) -> String? {
    if let generationReason, generationReason.generation == generation { return generationReason.text }
    guard let noted, noted.hasPrefix(generation.hex + " ") else { return nil }
    return Self.shown(Array(noted.utf8.dropFirst(17)))
  }

  /// On one line.
  private static func shown(_ bytes: [UInt8]) -> String {
    bytes.withUnsafeBytes { shown($0, $0.count) }
  }
}

extension WallClock {
  /// The time of day at `instant`, in UTC, such as `2026-01-31T09:26:53.589Z`.
  func text(_ instant: Instant) -> String {
    WallTime(microseconds: Int64(milliseconds(instant)) * 1000).text
  }
}
