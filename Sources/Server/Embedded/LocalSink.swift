import CLinux
import Glibc
import Invalidation
import NearCache
import Policies
import Synchronization

/// A write of the tail in the embedded mode.
enum LocalWrite: Sendable {
  case request(StateRequest)
  case apply(ApplyRequest, PackedKeys, PackedOrigins, groups: PackedKeys)
}

/// The tail's sink when there is no Redis: requests go to the event loop, which owns the state, and the loop's
/// replies come back through a queue with a descriptor to poll.
public struct LocalSink: ~Copyable, TailSink {
  private let mailbox: LoopMailbox
  private let replies: LocalReplies

  public init(mailbox: LoopMailbox) {
    self.mailbox = mailbox
    replies = mailbox.localReplies
    replies.clear()
  }

  public var descriptor: Int32 { replies.descriptor }
  public var wantsToWrite: Bool { false }

  public mutating func send(_ request: StateRequest) throws(SinkError) {
    mailbox.post(.local(.request(request)))
  }

  public mutating func apply(
    _ apply: ApplyRequest, keys: borrowing KeyBatch, chunk: Range<Int>
  ) throws(SinkError) {
    let origins = keys.packedOrigins(chunk, groups: apply.groups)
    mailbox.post(
      .local(.apply(apply, keys.packed(chunk), origins, groups: keys.packedGroups(apply.groups))))
  }

  public mutating func receive() throws(SinkError) -> StateReply? { replies.take() }
}

/// The loop's answers to the tail.
final class LocalReplies: Sendable {
  let descriptor: Int32
  private let queue = Mutex<[StateReply]>([])

  init?() {
    descriptor = clinux_eventfd()
    guard descriptor >= 0 else { return nil }
  }

  deinit { close(descriptor) }

  func post(_ reply: StateReply) {
    queue.withLock { $0.append(reply) }
    clinux_eventfd_notify(descriptor)
  }

  func take() -> StateReply? {
    clinux_eventfd_drain(descriptor)
    return queue.withLock { $0.isEmpty ? nil : $0.removeFirst() }
  }

  func clear() {
    clinux_eventfd_drain(descriptor)
    queue.withLock { $0 = [] }
  }
}

extension EventLoop {
  /// Carries out a write of the tail.
  mutating func applyLocally(_ write: LocalWrite) {
    guard embedded != nil else { return }
    switch write {
    case .request(.newGeneration(_, _, let new, _, _, let applied, let visible, let watching, _)):
      embedded?.begin(new, applied: applied, visible: visible, watching: watching)
      chronicle.began(new, at: now)
      noteGeneration(new)
      near.removeAll()
      tracking.table.flush()
      expectHerd()
      counters.drops += 1
      mailbox.localReplies.post(.began)
    case .request(.takeover): mailbox.localReplies.post(.noState)
    case .request(.purge): mailbox.localReplies.post(.purgeStep(cursor: "0", removed: 0))
    case .request(.purged): mailbox.localReplies.post(.cleared)
    // There is nothing to sweep: values are near only.
    case .request(.sweep): mailbox.localReplies.post(.purgeStep(cursor: "0", removed: 0))
    case .request(.swept): mailbox.localReplies.post(.swept(left: PendingGroups()))
    case .apply(let request, let keys, let origins, let groups):
      var raisesFloor = false
      groups.forEach { if governance.groups.isAdHoc($0) { raisesFloor = true } }
      var index = 0
      var changed: [[UInt8]] = []
      let refreshes = governance.refreshes
      let tracks = tracking.isActive
      let reply = embedded?.apply(request, keys, groups: groups, raisesFloor: raisesFloor) { key in
        let hash = near.hash(key)
        if near.remove(key, hash: hash), refreshes { changed.append([UInt8](key)) }
        if tracks { tracking.table.changed([UInt8](key)) }
        chronicle.removed(
          hash, KeyInvalidation(position: request.fence, origin: origins[index]), at: now)
        index += 1
      }
      var cleared: Set<[UInt8]> = []
      let hasTurns = !loading.turns.isEmpty
      groups.forEach { group in
        drop(group: group)
        if hasTurns { cleared.insert([UInt8](group)) }
        chronicle.removed(
          near.hash(group), KeyInvalidation(position: request.fence, origin: origins[index]), at: now)
        index += 1
      }
      noteInvalidation(keys, groups, origins, position: request.fence)
      for key in changed { noteChanged(key, at: request.fence) }
      if raisesFloor { expectHerd() } else { endTurns(in: cleared) }
      if !loading.turns.isEmpty { keys.forEach { endTurn([UInt8]($0)) } }
      if let lease = embedded?.lease { ledger.observed(lease, at: clock()) }
      mailbox.localReplies.post(reply ?? .noState)
    }
  }
}
