/// `Settings.mappingHash`: equal if, and practically only if, two sidecars clear the same keys for the same
/// changes. The order of tables, keys, columns and operations in the file does not matter.
public enum MappingHash {
  /// How many fence buckets a namespace has. `KeyHash.buckets` is the same number.
  public static let fenceBuckets = 65_536

  /// Sixteen lower-case hexadecimal digits: 64-bit FNV-1a over a canonical text, in which every part stands
  /// after its length, so that no two mappings share one.
  ///
  /// The number after `mapping` is that of the rules themselves: sidecars that do not know prefixes and tags
  /// have another, and so never share a state with those that do.
  public static func of(namespace: String?, tables: [TableRule], caches: [CacheRule] = []) -> String {
    var text = "nearside mapping 2;buckets \(fenceBuckets);"
    text += namespace.map { "namespace " + counted($0) } ?? "no namespace;"
    text += list(tables.map(canonical))
    // Which template covers a key decides which tags it has, so then all of them count, in their order.
    if caches.contains(where: { !$0.tags.isEmpty }) {
      for cache in caches {
        text += "cache" + counted(canonical(cache.template)) + list(cache.tags.map(canonical))
      }
    }
    var hash: UInt64 = 0xcbf2_9ce4_8422_2325
    for byte in text.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01b3 }
    let digits = String(hash, radix: 16)
    return String(repeating: "0", count: 16 - digits.utf8.count) + digits
  }

  private static func canonical(_ rule: TableRule) -> String {
    counted(rule.schema) + counted(rule.name) + "keys" + list(rule.keys.map(canonical)) + "tags"
      + list(rule.tags.map(canonical)) + "columns"
      + (rule.columns.map(list) ?? "all;") + "on" + list(rule.operations.map(\.rawValue))
      + (rule.when.map { "when" + counted($0.canonical) } ?? "")
      + (rule.lookups.isEmpty ? "" : "lookups" + list(rule.lookups.map(canonical)))
  }

  private static func canonical(_ lookup: LookupRule) -> String {
    counted(lookup.sql.text) + lookup.sql.names.map(counted).joined() + "keys"
      + list(lookup.keys.map(canonical))
  }

  private static func canonical(_ template: KeyTemplate) -> String {
    var text = ""
    for part in template.parts {
      switch part {
      case .literal(let literal): text += "literal" + counted(literal)
      case .column(let name, let filters, _):
        text += "column" + counted(name) + filters.map { "|" + $0.rawValue }.joined() + ";"
      }
    }
    return template.isPrefix ? text + "*" : text
  }

  private static func list(_ parts: [String]) -> String {
    "(" + Set(parts).sorted().map(counted).joined() + ")"
  }

  private static func counted(_ text: String) -> String { "\(text.utf8.count):\(text);" }
}
