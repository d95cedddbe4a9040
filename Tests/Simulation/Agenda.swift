/// What is to happen, in the order of its time; what has the same time happens in the order in which it was
/// entered.
struct Agenda {
  private struct Entry {
    var time: UInt64
    var order: UInt64
    var slot: Int
  }

  private var heap: [Entry] = []
  private var bodies: [(() -> Void)?] = []
  private var unused: [Int] = []
  private var order: UInt64 = 0

  var isEmpty: Bool { heap.isEmpty }

  mutating func enter(_ time: UInt64, _ body: @escaping () -> Void) {
    let slot: Int
    if let free = unused.popLast() {
      slot = free
      bodies[free] = body
    } else {
      slot = bodies.count
      bodies.append(body)
    }
    order += 1
    heap.append(Entry(time: time, order: order, slot: slot))
    var at = heap.count - 1
    while at > 0 {
      let parent = (at - 1) / 2
      guard Self.isBefore(heap[at], heap[parent]) else { break }
      heap.swapAt(at, parent)
      at = parent
    }
  }

  mutating func next() -> (time: UInt64, body: () -> Void)? {
    guard let first = heap.first, let last = heap.popLast() else { return nil }
    if !heap.isEmpty {
      heap[0] = last
      sink()
    }
    guard let body = bodies[first.slot].take() else { return nil }
    unused.append(first.slot)
    return (first.time, body)
  }

  private mutating func sink() {
    var at = 0
    while true {
      var least = at
      for child in [2 * at + 1, 2 * at + 2] where child < heap.count {
        if Self.isBefore(heap[child], heap[least]) { least = child }
      }
      if least == at { return }
      heap.swapAt(at, least)
      at = least
    }
  }

  private static func isBefore(_ a: Entry, _ b: Entry) -> Bool {
    (a.time, a.order) < (b.time, b.order)
  }
}
