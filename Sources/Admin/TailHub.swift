import Metrics
import NIOConcurrencyHelpers
import NIOCore

/// Hands what clears keys to everybody who watches. While nobody does, the event loop of clients is told so, and
/// makes nothing.
final class TailHub: Sendable {
  private struct Inbox {
    var events: [TapEvent] = []
    var lost = 0
    var isCalled = false
    var isStopped = false
  }

  private let source: any AdminSource
  private let loop: any EventLoop
  private let inbox = NIOLockedValueBox(Inbox())
  private let streams: NIOLoopBoundBox<Streams>

  /// Only the endpoint's thread touches it.
  private struct Streams {
    var all: [ObjectIdentifier: TailStream] = [:]
    var pulse: RepeatedTask?
  }

  /// Events that wait for the endpoint's thread; more are dropped and counted.
  static let mostWaiting = 4096
  static let mostStreams = 32
  /// How often an idle stream says that it lives.
  static let pulse = TimeAmount.seconds(5)

  init(source: any AdminSource, loop: any EventLoop) {
    self.source = source
    self.loop = loop
    streams = .makeBoxSendingValue(Streams(), eventLoop: loop)
  }

  func stop() {
    inbox.withLockedValue { $0.isStopped = true }
    source.tap(nil)
  }

  /// False if too many watch already. To be called on the endpoint's thread.
  func add(_ stream: TailStream) -> Bool {
    guard streams.value.all.count < Self.mostStreams else { return false }
    streams.value.all[ObjectIdentifier(stream)] = stream
    guard streams.value.all.count == 1 else { return true }
    source.tap { [self] in hear($0) }
    streams.value.pulse = loop.scheduleRepeatedTask(initialDelay: Self.pulse, delay: Self.pulse) {
      [streams] _ in
      for stream in streams.value.all.values { stream.pulse() }
    }
    return true
  }

  func remove(_ stream: TailStream) {
    streams.value.all[ObjectIdentifier(stream)] = nil
    guard streams.value.all.isEmpty else { return }
    streams.value.pulse?.cancel()
    streams.value.pulse = nil
    source.tap(nil)
  }

  /// Called from the event loop of clients, which must not wait: the events are handed over, or counted.
  private func hear(_ events: [TapEvent]) {
    let calls = inbox.withLockedValue { inbox in
      let room = max(0, Self.mostWaiting - inbox.events.count)
      inbox.events += events.prefix(room)
      inbox.lost += max(0, events.count - room)
      guard !inbox.isCalled, !inbox.isStopped else { return false }
      inbox.isCalled = true
      return true
    }
    if calls { loop.execute { [self] in deliver() } }
  }

  private func deliver() {
    let (events, lost) = inbox.withLockedValue { inbox in
      defer { inbox = Inbox(isStopped: inbox.isStopped) }
      return (inbox.events, inbox.lost)
    }
    for stream in streams.value.all.values { stream.hear(events, lost: lost) }
  }
}

/// One who watches. A ring of what could not be written yet; what does not fit is dropped, and the count is told.
final class TailStream {
  private let table: String?
  private let showsKeys: Bool
  /// Writes; whether more may follow at once.
  private let write: (String) -> Bool
  private var waiting: [TapEvent] = []
  private var lost = 0
  private var isOpen = true
  private var isIdle = true

  static let mostWaiting = 1000

  init(table: String?, showsKeys: Bool, write: @escaping (String) -> Bool) {
    self.table = table
    self.showsKeys = showsKeys
    self.write = write
  }

  /// The first line shows that the stream is open.
  func begin() { isOpen = write(": nearside\n\n") }

  func hear(_ events: [TapEvent], lost: Int) {
    self.lost += lost
    for event in events where wants(event) {
      if waiting.count < Self.mostWaiting { waiting.append(event) } else { self.lost += 1 }
    }
    flush()
  }

  /// The connection takes more again.
  func goOn() {
    isOpen = true
    flush()
  }

  /// Once in a while, so that a peer that is gone is noticed.
  func pulse() {
    if isIdle, isOpen { isOpen = write(": \n\n") }
    isIdle = true
  }

  private func wants(_ event: TapEvent) -> Bool {
    guard let table, case .invalidation(let event) = event else { return true }
    return event.table == table
  }

  private func flush() {
    guard isOpen, !waiting.isEmpty || lost > 0 else { return }
    var text = ""
    for event in waiting { text += Self.text(event, showsKeys: showsKeys) }
    if lost > 0 { text += Self.message("dropped", ["count": .whole(lost)]) }
    waiting.removeAll(keepingCapacity: true)
    lost = 0
    isIdle = false
    isOpen = write(text)
  }

  private static func text(_ event: TapEvent, showsKeys: Bool) -> String {
    switch event {
    case .invalidation(var event):
      if !showsKeys {
        event.keys = []
        event.groups = []
      }
      return message("invalidation", event.json)
    case .generation(let time, let id, let reason):
      return message(
        "generation", ["time": .text(time.text), "generation": .text(id), "reason": .text(ifAny: reason)])
    }
  }

  private static func message(_ name: String, _ data: JSONText) -> String {
    "event: \(name)\ndata: \(data)\n\n"
  }
}
