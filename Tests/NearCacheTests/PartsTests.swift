import Testing

@testable import NearCache

@Suite("The near cache's parts")
struct PartsTests {
  @Test("A header takes the bytes that the layout says")
  func header() { #expect(MemoryLayout<EntryHeader>.size == EntryHeader.count) }

  @Test("Free lists divide sizes without a gap, and larger sizes are never in earlier lists")
  func lists() {
    var last = -1
    for size in 1...UInt32(100_000) {
      let index = Arena.list(for: size).index
      #expect(index == last || index == last + 1 || last == -1)
      last = index
    }
    #expect(Arena.list(for: 0x7fff_ffff).index == 28 * 16 - 1)
  }

  @Test("A freed arena is one block again, whatever the order", arguments: 0..<20)
  func coalesces(seed: UInt64) throws {
    var random = Seeded(seed)
    var arena = try Arena(bytes: 1 << 18)
    var blocks: [UInt32] = []
    while true {
      let block = arena.allocate(UInt32.random(in: 3...60, using: &random))
      if block == 0 { break }
      blocks.append(block)
    }
    blocks.shuffle(using: &random)
    for (index, block) in blocks.enumerated() {
      _ = arena.free(block)
      if index % 50 == 0 {
        let wrong = arena.walk { _, _ in }
        #expect(wrong == nil)
      }
    }
    #expect(arena.used == 0)
    let whole = arena.allocate(arena.capacity)
    #expect(whole == Arena.firstBlock)
  }

  @Test("Deleting from a crowded table loses no other slot, across its end too", arguments: 0..<20)
  func table(seed: UInt64) throws {
    var random = Seeded(seed)
    var table = try SlotTable(bytes: Mapping.pageSize)
    var model: [UInt32: UInt32] = [:]
    var next: UInt32 = 1
    for step in 0..<4000 {
      if table.taken < table.limit, step < 500 || Bool.random(using: &random) {
        // Half of the tags have their home in the last slots, so that runs go on at the beginning.
        let tag =
          Bool.random(using: &random)
          ? UInt32.random(in: .min ... .max, using: &random)
          : .max - UInt32.random(in: 0..<(1 << 25), using: &random)
        table.insert(tag, offset: next)
        model[next] = tag
        next += 1
      } else if let victim = model.randomElement(using: &random) {
        table.remove(victim.value, offset: victim.key)
        model[victim.key] = nil
      }
    }
    #expect(table.taken == model.count)
    for (offset, tag) in model {
      var index = table.home(tag)
      while table.slots[index] != 0, table.slots[index] != UInt64(tag) << 32 | UInt64(offset) {
        index = table.next(index)
      }
      #expect(table.slots[index] != 0)
    }
  }
}
