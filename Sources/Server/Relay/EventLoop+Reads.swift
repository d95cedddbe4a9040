import Configuration
import Invalidation
import Logging
import NearCache

/// Reads that the near cache could not answer at once.
extension EventLoop {
  /// GET, MGET, EXISTS, STRLEN.
  mutating func executeNear(_ request: Request, _ name: String, _ slot: Int) {
    var keys: [GovernedKey?] = []
    var anyGoverned = false
    for index in 1..<request.count {
      let key = governedKey(request[index])
      anyGoverned = anyGoverned || key != nil
      keys.append(key)
    }
    guard anyGoverned else { return relay(request, slot) }
    let fresh = isFresh(at: clock())
    let nearAllowed = fresh || settings.staleness.beyond == .serve
    var elements: [GovernedRead.Element] = []
    var asked: [Int] = []
    var governed: [GovernedKey] = []
    var found = 0
    for (index, key) in keys.enumerated() {
      if let key, nearAllowed, let entry = near.find(request[index + 1], hash: key.hash, now: now) {
        found += 1
        if fresh { counters.nearHits += 1 } else { counters.stale += 1 }
        if name == "strlen" { return replyNear(slot) { $0.integer(entry.valueCount) } }
        elements.append(.near(name == "exists" ? [] : [UInt8](entry.reply)))
        continue
      }
      if key != nil { counters.nearMisses += 1 }
      asked.append(index + 1)
      elements.append(.asked(governed: key == nil ? nil : governed.count))
      if let key { governed.append(key) }
    }
    if asked.isEmpty {
      return replyNear(slot) { output in
        if name == "exists" { return output.integer(found) }
        if name == "mget" { output.array(elements.count) }
        for case .near(let bytes) in elements { output.append(bytes) }
      }
    }
    let shape: GovernedRead.Shape =
      switch name {
      case "get": .get
      case "mget": .mget(elements)
      case "strlen": .strlen
      default:
        .exists(
          found: found,
          governed: elements.compactMap { if case .asked(let key) = $0 { key != nil } else { nil } })
      }
    let read = GovernedRead(shape: shape, keys: governed, asked: now, nearEvidence: certificate)
    for case .near(let bytes) in elements { clients[slot].owedBytes += bytes.count }
    let token = clients[slot].token
    let stateRequest = stateRequest
    withUpstream(slot) { upstream in
      upstream.output.append(stateRequest)
      var replies = 1
      switch shape {
      case .exists, .strlen:
        for index in asked {
          upstream.output.array(2)
          upstream.output.bulk(request[0])
          upstream.output.bulk(request[index])
        }
        replies += asked.count
      default:
        upstream.output.array(asked.count + 1)
        upstream.output.bulk(request[0])
        for index in asked { upstream.output.bulk(request[index]) }
        for key in governed { upstream.askExpiry(key) }
        replies += 1 + governed.count
      }
      upstream.await(.task(UpstreamTask(client: token, replies: replies, work: .read(read))))
    }
  }

  /// Answers with what the near cache has.
  private mutating func replyNear(_ slot: Int, _ write: (inout IOBuffer) -> Void) {
    guard let certificate else { return reply(slot, write) }
    clients[slot].replyNear(evidence: certificate, write)
  }

  /// Any other read: Redis answers, under the state read before it.
  mutating func executeRead(_ request: Request, _ name: String, _ absent: AbsentReply, _ slot: Int) {
    guard let spec = commands.spec(request[0]) else { return relay(request, slot) }
    var governed: [GovernedKey] = []
    for index in spec.keyIndices(count: request.count) {
      if let key = governedKey(request[index]) { governed.append(key) }
    }
    guard !governed.isEmpty else { return relay(request, slot) }
    let read = GovernedRead(
      shape: .other(absent, arguments: request.count - 2, name: name), keys: governed, asked: now)
    send(read, request, slot)
  }

  /// NEARSIDE LEASE key: like GET, with the lease in the answer.
  mutating func executeLease(_ request: Request, _ slot: Int) {
    guard let key = governedKey(request[2]) else { return reply(slot) { $0.error(Self.notGoverned) } }
    if isFresh(at: clock()), let entry = near.find(request[2], hash: key.hash, now: now) {
      counters.nearHits += 1
      let resp3 = clients[slot].resp3
      return replyNear(slot) {
        $0.array(2)
        $0.append(entry.reply)
        $0.null(resp3: resp3)
      }
    }
    counters.nearMisses += 1
    let read = GovernedRead(shape: .lease, keys: [key], asked: now)
    let token = clients[slot].token
    let stateRequest = stateRequest
    withUpstream(slot) { upstream in
      upstream.output.append(stateRequest)
      upstream.output.array(2)
      upstream.output.argument("GET")
      upstream.output.bulk(request[2])
      upstream.askExpiry(key)
      upstream.await(.task(UpstreamTask(client: token, replies: 3, work: .read(read))))
    }
  }

  static let notGoverned =
    "ERR Nearside: no mapping covers this key, so nothing would clear it when a row changes"

  private mutating func send(_ read: GovernedRead, _ request: Request, _ slot: Int) {
    let token = clients[slot].token
    let stateRequest = stateRequest
    withUpstream(slot) { upstream in
      upstream.output.append(stateRequest)
      request.append(to: &upstream.output)
      upstream.await(.task(UpstreamTask(client: token, replies: 2, work: .read(read))))
    }
  }

  /// The request for the state, sent before every read whose value it judges.
  static func stateRequest(_ meta: String) -> [UInt8] {
    var request = IOBuffer(size: 256)
    request.array(FleetState.fieldNames.count + 2)
    request.argument("HMGET")
    request.bulk(meta)
    for name in FleetState.fieldNames { request.bulk(name) }
    return [UInt8](request.bytes)
  }

  /// Reads the reply to it; nil if Redis has no state.
  static func readState(_ cursor: inout ReplyCursor) -> FleetState? {
    guard let count = cursor.enter() else {
      _ = cursor.raw()
      return nil
    }
    var fields: [String?] = []
    for _ in 0..<count { fields.append(cursor.text()) }
    return FleetState(fields: fields)
  }
}

extension Upstream {
  fileprivate mutating func askExpiry(_ key: GovernedKey) {
    output.array(2)
    output.argument("PTTL")
    key.bytes.withUnsafeBytes { output.bulk($0) }
  }
}
