/// Takes options out of a JSON tree by the table of options, and collects what is wrong with them. A value
/// that is wrong is reported once and then stands for its default, so that reading goes on.
struct OptionLoader {
  /// An object of the file together with its place in the table of options.
  struct Section {
    var option: String
    var steps: [PathStep]
    var members: [JSONNode.Member]
    var place: SourcePlace

    /// The first member of that name; later ones have been reported as duplicates.
    subscript(name: String) -> JSONNode.Member? { members.first { $0.key == name } }
  }

  let expansion: Expansion
  var diagnostics: [Diagnostic]

  // MARK: Reporting

  mutating func error(
    _ place: SourcePlace?, _ code: ConfigurationCode, _ steps: [PathStep], _ message: String,
    suggestion: String? = nil
  ) {
    diagnostics.append(
      Diagnostic(at: place, code: code, path: renderedPath(steps), message: message, suggestion: suggestion))
  }

  mutating func warn(_ place: SourcePlace?, _ code: ConfigurationCode, _ steps: [PathStep], _ message: String)
  {
    diagnostics.append(
      Diagnostic(.warning, at: place, code: code, path: renderedPath(steps), message: message))
  }

  mutating func wrongType(_ node: JSONNode, _ steps: [PathStep], expected: String) {
    let what =
      switch steps.last {
      case .key(let key): quoted(key)
      case .index: "an element of this list"
      case nil: "a configuration"
      }
    error(node.place, .wrongType, steps, "\(what) must be \(expected), not \(node.kind)")
  }

  // MARK: Sections

  /// Opens an object and reports every key in it that is not an option.
  mutating func open(_ node: JSONNode, option: String, steps: [PathStep]) -> Section? {
    guard let members = node.members else {
      wrongType(node, steps, expected: Self.expectation(option))
      return nil
    }
    var seen: Set<String> = []
    for member in members where seen.insert(member.key).inserted { checkName(member, option, steps) }
    return Section(option: option, steps: steps, members: members, place: node.place)
  }

  /// The section at this path of the table; nil if it is absent or stands in its short form.
  mutating func section(_ path: String, in parent: Section?) -> Section? {
    guard let option = ConfigurationOption.at(path), let member = parent?[option.name] else { return nil }
    if case .sectionOr = option.kind, member.node.string != nil { return nil }
    return open(member.node, option: path, steps: (parent?.steps ?? []) + [.key(option.name)])
  }

  private mutating func checkName(_ member: JSONNode.Member, _ option: String, _ steps: [PathStep]) {
    let names = ConfigurationOption.names(in: option)
    guard !names.contains(member.key) else { return }
    let path = steps + [.key(member.key)]
    if ConfigurationOption.notYet[option]?.contains(member.key) == true {
      error(member.keyPlace, .notSupported, path, "\(quoted(member.key)) is not supported by this version")
      return
    }
    var message = "unknown key \(quoted(member.key))"
    if !steps.isEmpty { message += " in " + renderedPath(steps) }
    let suggestion = nearest(to: member.key, among: names)
    if suggestion == nil {
      let elsewhere = ConfigurationOption.all.first {
        $0.name == member.key && $0.parent != option && !$0.path.contains("*")
      }
      if let elsewhere {
        message +=
          elsewhere.parent.isEmpty
          ? "; it belongs at the top level of the file" : "; it belongs in \(quoted(elsewhere.parent))"
      } else {
        message += "; the keys here are " + names.map(quoted).joined(separator: ", ")
      }
    }
    error(member.keyPlace, .unknownKey, path, message, suggestion: suggestion)
  }

  /// Follows the path of an option that is a list, to name one of its elements.
  static let element = ".[]"

  /// What may stand at a path of the table, as "must be …" goes on.
  static func expectation(_ path: String) -> String {
    if path.hasSuffix(Self.element) { return "text in double quotes" }
    return switch ConfigurationOption.at(path)?.kind {
    case .sections: "an object such as {\"sql\": \"SELECT …\", \"keys\": […]}"
    case .sectionOr(.templates): "a key template, a list of them, or an object"
    case .sectionOr: "text in double quotes or an object"
    case .flag: "true or false"
    case .factor: "false, true or a number above zero"
    case .count(let range): "a whole number from \(range.lowerBound) to \(range.upperBound)"
    case .sectionOrFalse: "false or an object such as {\"ttl\": \"5s\"}"
    case .templates: "a key template in double quotes or a list of them"
    case .texts, .choices: "a list"
    case .section, .map, nil: "an object"
    default: "text in double quotes"
    }
  }

  // MARK: Values

  /// Text with its references replaced.
  mutating func text(
    _ node: JSONNode, option: String, steps: [PathStep], expanding: Bool = true
  ) -> PlacedText? {
    guard let raw = PlacedText(node) else {
      wrongType(node, steps, expected: Self.expectation(option))
      return nil
    }
    return expanding ? expanded(raw, steps) : raw
  }

  mutating func expanded(_ raw: PlacedText, _ steps: [PathStep]) -> PlacedText? {
    do {
      return try expansion.expand(raw)
    } catch {
      self.error(error.place, error.code, steps, error.message)
      return nil
    }
  }

  mutating func text(_ path: String, in section: Section?, expanding: Bool = true) -> PlacedText? {
    guard let (node, steps) = find(path, in: section) else { return nil }
    return text(node, option: path, steps: steps, expanding: expanding)
  }

  mutating func nonEmpty(_ path: String, in section: Section?) -> PlacedText? {
    guard let (node, steps) = find(path, in: section) else { return nil }
    return nonEmpty(node, option: path, steps: steps)
  }

  /// Text that names something of the system: not empty, without control characters.
  mutating func nonEmpty(_ node: JSONNode, option: String, steps: [PathStep]) -> PlacedText? {
    guard let text = text(node, option: option, steps: steps) else { return nil }
    guard !text.text.isEmpty else {
      error(text.place, .badValue, steps, "this text is empty; leave the key out for the default")
      return nil
    }
    guard let control = text.text.unicodeScalars.firstIndex(where: isControl) else { return text }
    let offset = text.text.unicodeScalars.distance(from: text.text.unicodeScalars.startIndex, to: control)
    error(text.place(offset..<offset + 1), .badValue, steps, "there can be no control character here")
    return nil
  }

  mutating func name(_ path: String, in section: Section?) -> PlacedText? {
    guard let (node, steps) = find(path, in: section), let text = text(node, option: path, steps: steps)
    else { return nil }
    guard case .name(let longest) = ConfigurationOption.at(path)?.kind else { return text }
    let letters = text.text.utf8.allSatisfy { isWord($0) && !(0x41...0x5a).contains($0) }
    guard letters, (1...longest).contains(text.text.utf8.count) else {
      error(
        text.place, .badValue, steps,
        "\(text.shown) cannot be this name, which has 1 to \(longest) lower-case letters, digits and "
          + "underscores"
      )
      return nil
    }
    return text
  }

  mutating func choice<T: RawRepresentable<String> & CaseIterable>(
    _ path: String, in section: Section?
  ) -> T? {
    guard let (node, steps) = find(path, in: section) else {
      return ConfigurationOption.at(path)?.defaultValue.flatMap(T.init)
    }
    return choice(node, option: path, steps: steps)?.value
  }

  mutating func choice<T: RawRepresentable<String> & CaseIterable>(
    _ node: JSONNode, option: String, steps: [PathStep]
  ) -> (value: T, place: SourcePlace)? {
    guard let text = text(node, option: option, steps: steps) else { return nil }
    if let value = T(rawValue: text.text) { return (value, text.place) }
    let words = T.allCases.map(\.rawValue)
    error(
      text.place, .badValue, steps, "\(text.shown) is none of " + words.map(quoted).joined(separator: ", "),
      suggestion: text.isExpanded ? nil : nearest(to: text.text, among: words))
    return nil
  }

  /// Nanoseconds; the table's default if the option is absent or wrong.
  mutating func duration(_ path: String, in section: Section?) -> UInt64 {
    durationIfAny(path, in: section) ?? Self.defaultValue(path, Units.duration)
  }

  mutating func durationIfAny(_ path: String, in section: Section?) -> UInt64? {
    measure(
      path, in: section, Units.duration, what: "a duration", like: ["2s", "250ms"], units: ["ms", "s"])
  }

  /// Bytes; the table's default if the option is absent or wrong.
  mutating func size(_ path: String, in section: Section?) -> Int {
    sizeIfAny(path, in: section) ?? Self.defaultValue(path, Units.size)
  }

  mutating func sizeIfAny(_ path: String, in section: Section?) -> Int? {
    measure(path, in: section, Units.size, what: "a size", like: ["256MiB", "64KB"], units: ["MiB", "B"])
  }

  mutating func durationOrFalse(_ path: String, in section: Section?) -> UInt64? {
    guard let (node, steps) = find(path, in: section), node.bool != false else { return nil }
    if node.bool == true {
      error(
        node.place, .wrongType, steps,
        "true does not say how long; write a duration such as \"2s\", or false")
      return nil
    }
    return durationIfAny(path, in: section)
  }

  mutating func sizeOrFalse(_ path: String, in section: Section?) -> Int? {
    guard let (node, steps) = find(path, in: section), node.bool != false else { return nil }
    if node.bool == true {
      error(
        node.place, .wrongType, steps,
        "true does not say how much; write a size such as \"10GiB\", or false")
      return nil
    }
    return sizeIfAny(path, in: section)
  }

  /// A part of one; the table's default if the option is absent or wrong.
  mutating func percent(_ path: String, in section: Section?) -> Double {
    let fallback = Self.defaultValue(path, Units.percent)
    guard let (node, steps) = find(path, in: section) else { return fallback }
    if let number = node.number {
      error(
        node.place, .wrongType, steps,
        Units.percent(number + "%") == nil
          ? "\(number) is not a share; write it like \"10%\"" : "\(number) has no unit; write \"\(number)%\"")
      return fallback
    }
    guard let text = text(node, option: path, steps: steps) else { return fallback }
    if let value = Units.percent(text.text) { return value }
    error(
      text.place, .badValue, steps,
      "\(text.shown) is not a share from \"0%\" to \"100%\"; write it like \"10%\"")
    return fallback
  }

  /// A whole number within its option's range; the table's default if the option is absent or wrong.
  mutating func count(_ path: String, in section: Section?) -> Int {
    countIfAny(path, in: section) ?? Self.defaultValue(path, Int.init)
  }

  mutating func countIfAny(_ path: String, in section: Section?) -> Int? {
    guard let (node, steps) = find(path, in: section),
      case .count(let range) = ConfigurationOption.at(path)?.kind
    else { return nil }
    guard let number = node.number else {
      wrongType(node, steps, expected: Self.expectation(path))
      return nil
    }
    if let value = Int(number), range.contains(value) { return value }
    error(node.place, .badValue, steps, "\(number) is not \(Self.expectation(path))")
    return nil
  }

  mutating func flag(_ path: String, in section: Section?) -> Bool {
    flagIfAny(path, in: section) ?? Self.defaultValue(path, Bool.init)
  }

  mutating func flagIfAny(_ path: String, in section: Section?) -> Bool? {
    guard let (node, steps) = find(path, in: section) else { return nil }
    if let value = node.bool { return value }
    wrongType(node, steps, expected: Self.expectation(path))
    return nil
  }

  mutating func fileMode(_ path: String, in section: Section?) -> UInt16 {
    let fallback = Self.defaultValue(path, Units.fileMode)
    guard let (node, steps) = find(path, in: section) else { return fallback }
    if let number = node.number {
      error(node.place, .wrongType, steps, Self.modeHint(number))
      return fallback
    }
    guard let text = text(node, option: path, steps: steps) else { return fallback }
    if let mode = Units.fileMode(text.text) { return mode }
    error(
      text.place, .badValue, steps,
      text.isExpanded ? "\(text.shown) is not a file mode" : Self.modeHint(text.text)
    )
    return fallback
  }

  private static func modeHint(_ written: String) -> String {
    let isMode = Units.fileMode("0" + written) != nil
    return "\(printable(written)) is not a file mode; write \"\(isMode ? "0" + written : "0660")\""
  }

  private mutating func measure<T: FixedWidthInteger>(
    _ path: String, in section: Section?, _ read: (String) -> T?, what: String, like: [String],
    units: [String]
  ) -> T? {
    guard let (node, steps) = find(path, in: section) else { return nil }
    func withoutUnit(_ number: String) -> String {
      let whole = number.utf8.count <= 9 && number.utf8.allSatisfy { (0x30...0x39).contains($0) }
      let hints = whole ? units.map { number + $0 } : like
      return "\(number) has no unit; write \"\(hints[0])\" or \"\(hints[1])\""
    }
    if let number = node.number {
      error(node.place, .wrongType, steps, withoutUnit(number))
      return nil
    }
    guard let text = text(node, option: path, steps: steps) else { return nil }
    guard let value = read(text.text) else {
      let digits = !text.text.isEmpty && text.text.utf8.allSatisfy { (0x30...0x39).contains($0) }
      error(
        text.place, .badValue, steps,
        digits && !text.isExpanded
          ? withoutUnit(text.text)
          : "\(text.shown) is not \(what); write it like \"\(like[0])\" or \"\(like[1])\"")
      return nil
    }
    guard value > 0 else {
      error(text.place, .badValue, steps, "\(text.shown) is zero; \(what) above zero is needed here")
      return nil
    }
    return value
  }

  /// The node of an option in its section, with the steps that lead to it.
  func find(_ path: String, in section: Section?) -> (JSONNode, [PathStep])? {
    guard let section, let option = ConfigurationOption.at(path), let member = section[option.name] else {
      return nil
    }
    return (member.node, section.steps + [.key(option.name)])
  }

  static func defaultValue<T>(_ path: String, _ read: (String) -> T?) -> T {
    guard let value = ConfigurationOption.at(path)?.defaultValue.flatMap(read) else {
      preconditionFailure("the table of options gives no default for \(path)")
    }
    return value
  }
}
