import Configuration

/// The row that is being read: where its values lie in the message, and the buffers its keys are written in.
/// One is kept for the whole stream, so that a row needs no memory of its own.
struct Row: Sendable {
  /// The new row and the old one, by slot; what is in them counts only until the next row.
  var new: [TupleValue] = []
  var old: [TupleValue] = []
  private var key: [UInt8] = []
  private var scratch: [UInt8] = []

  mutating func makeRoom(for slots: Int) {
    while new.count < slots { new.append(TupleValue()) }
    while old.count < slots { old.append(TupleValue()) }
  }

  /// Whether an UPDATE that brought its old row concerns a rule: whether a column it watches has changed.
  func changes(
    _ rule: BoundRelation.Rule, _ relation: borrowing BoundRelation, _ message: UnsafeRawBufferPointer
  ) -> Bool {
    guard rule.hasFilter else { return true }
    for position in rule.filter {
      let slot = relation.filterSlots[position]
      if !new[slot].isUnchanged(from: old[slot], in: message) { return true }
    }
    return false
  }

  /// Whether a change meets the condition of a rule that has one.
  func meets(
    _ operation: RowOperation, _ rule: BoundRelation.Rule, _ relation: borrowing BoundRelation, hasOld: Bool,
    isPassed: Bool, _ message: UnsafeRawBufferPointer
  ) -> Bool {
    let condition = relation.conditions[rule.condition]
    switch operation {
    case .insert: return condition.counts(new: new, old: nil, hasMoved: { false }, message)
    case .delete: return condition.counts(new: nil, old: old, hasMoved: { false }, message)
    case .truncate: return true
    case .update:
      if hasOld {
        let steps = relation.steps
        let templates = relation.templates[rule.templates]
        let lookups = relation.lookups[rule.lookups]
        func hasMoved(_ slot: Int) -> Bool {
          slot >= 0 && !new[slot].isUnchanged(from: old[slot], in: message)
        }
        return condition.counts(
          new: new, old: old, isPassed: isPassed,
          hasMoved: {
            templates.joined().contains { hasMoved(Int(steps[$0].slot)) }
              || lookups.contains { $0.slots.contains { hasMoved(Int($0)) } }
          }, message)
      }
      // A whole old row that is missing is a doubt, which must be told.
      guard !relation.isFull else { return true }
      // Otherwise no column of the replica identity has changed, and the condition has no others.
      return condition.counts(new: new, old: new, isPassed: isPassed, hasMoved: { false }, message)
    }
  }

  /// How writing a rule's keys went; anything but `told` is a doubt.
  enum Outcome {
    case told, valueMissing, oldRowMissing, tooLong

    var reason: String? {
      switch self {
      case .told: nil
      case .valueMissing: "a row came without the value of a large column that has not changed"
      case .oldRowMissing: "an UPDATE came without its old row"
      case .tooLong: "a key is longer than \(PackedKeys.longestKey) bytes"
      }
    }
  }

  /// Adds the keys and groups that one rule has for the row: of the new row, of the old one, or of both.
  mutating func appendKeys(
    _ operation: RowOperation, _ rule: BoundRelation.Rule, _ relation: borrowing BoundRelation,
    hasOld: Bool, _ message: UnsafeRawBufferPointer, transaction: UInt32, _ batch: inout KeyBatch
  ) -> Outcome {
    var outcome = Outcome.told
    if operation == .update, !hasOld, relation.isFull { outcome = .oldRowMissing }
    for number in rule.templates {
      let steps = relation.templates[number]
      for image in [Image.new, .old] where image == .new ? operation != .delete : hasOld {
        switch write(steps, relation, image, hasOld: hasOld, message) {
        case .key:
          var origin = relation.origins[number]
          origin.transaction = transaction
          origin.operation = operation
          let isKey = relation.kinds[number] == .key
          key.withUnsafeBytes {
            if isKey {
              batch.append($0, table: rule.table, origin: origin)
            } else {
              batch.append(group: $0, table: rule.table, origin: origin)
            }
          }
        case .null: break
        case .missing: outcome = .valueMissing
        case .tooLong: outcome = .tooLong
        }
      }
    }
    for number in rule.lookups {
      for image in [Image.new, .old] where image == .new ? operation != .delete : hasOld {
        if !ask(relation.lookups[number], image, hasOld: hasOld, message, &batch) {
          outcome = .valueMissing
        }
      }
    }
    return outcome
  }

  /// Asks a lookup with the values of one image; false if one is not known.
  private mutating func ask(
    _ lookup: BoundRelation.BoundLookup, _ image: Image, hasOld: Bool, _ message: UnsafeRawBufferPointer,
    _ batch: inout KeyBatch
  ) -> Bool {
    key.removeAll(keepingCapacity: true)
    for slot in lookup.slots {
      var value = image == .new ? new[slot] : old[slot]
      if value.kind == .unchanged, image == .new, hasOld { value = old[slot] }
      switch value.kind {
      case .null: LookupAsk.append(nil, to: &key)
      case .unchanged: return false
      case .text: LookupAsk.append(value.bytes(in: message), to: &key)
      }
    }
    key.withUnsafeBytes { batch.ask($0, lookup: lookup.index) }
    return true
  }

  private enum Image { case new, old }
  private enum Written { case key, null, missing, tooLong }

  /// Writes one template into `key`, with the values of the new row or of the old one.
  private mutating func write(
    _ steps: Range<Int>, _ relation: borrowing BoundRelation, _ image: Image, hasOld: Bool,
    _ message: UnsafeRawBufferPointer
  ) -> Written {
    key.removeAll(keepingCapacity: true)
    for position in steps {
      let step = relation.steps[position]
      if step.slot < 0 {
        let start = Int(step.start)
        key.append(contentsOf: relation.literals[start..<start + Int(step.count)])
        continue
      }
      let slot = Int(step.slot)
      var value = image == .new ? new[slot] : old[slot]
      // A large value that an UPDATE did not touch stands only in the old row, if anywhere.
      if value.kind == .unchanged, image == .new, hasOld { value = old[slot] }
      switch value.kind {
      case .null: return .null
      case .unchanged: return .missing
      case .text: break
      }
      guard step.format.append(value.bytes(in: message), to: &key, scratch: &scratch) else { return .tooLong }
      // Checked at each step, so that many long values cannot make the buffer large.
      if key.count > PackedKeys.longestKey { return .tooLong }
    }
    return key.count > PackedKeys.longestKey ? .tooLong : .key
  }
}
