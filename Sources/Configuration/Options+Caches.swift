extension ConfigurationOption {
  /// The keys of `caches`.
  static let caches: [ConfigurationOption] = [
    .init("caches", .map, "What is special about the keys of a template, by the template."),
    .init("caches.*", .section, "The rules for the keys of this template."),
    .init("caches.*.near", .sectionOrFalse, "false: these keys are never kept near."),
    .init(
      "caches.*.near.ttl", .duration,
      "How long these keys are kept near at most. Default: near.ttl."),
    .init(
      "caches.*.staleness", .section,
      "How old the evidence behind an answer about these keys may be. Default: the global staleness."),
    .init(
      "caches.*.staleness.bound", .duration, "The bound for these keys. Default: staleness.bound."),
    .init(
      "caches.*.staleness.beyond", .choice(words(StalenessSettings.Beyond.self)),
      "What these keys are answered beyond it. Default: staleness.beyond."),
    .init(
      "caches.*.plainSet", .choice(words(PlainSetSettings.Mode.self)),
      "plainSet for these keys. Default: the global one."),
    .init(
      "caches.*.plainSetWindow", .duration, "plainSetWindow for these keys. Default: the global one."),
    .init(
      "caches.*.tags", .templates,
      "The tags that each of these keys belongs to. Their columns must stand in the keys' template."),
    .init(
      "caches.*.ttl", .duration,
      "How long a value is kept at most: a SET without a time gets this one, one with a longer time is cut to "
        + "it. Default: as the SET says."),
    .init(
      "caches.*.jitter", .percent, default: "0%",
      "By how much of ttl it is shortened at most, at random, so that keys that were set together do not "
        + "expire together."),
    .init(
      "caches.*.negative", .orFalse(.duration), default: "false",
      "How long it is kept that a load found no row. Cleared when the row appears."),
    .init(
      "caches.*.load", .sectionOr(.text),
      "Read-through: what a miss runs. A text is its sql. Default: the application loads and SETs."),
    .init(
      "caches.*.load.sql", .text,
      "One statement; :name binds a column of the template, as its text stands in the key (with lower, in "
        + "lower case)."),
    .init(
      "caches.*.load.many", .text,
      "One statement for several keys at once, as MGET loads them: :name binds an array of the column's values. "
        + "Its rows have the columns of these names, and one more: the value. Default: each key has its own."),
    .init(
      "caches.*.load.as", .choice(words(LoadSettings.Shape.self)), default: "string",
      "string: a single column as it is, several as a JSON object. hash: a row, one field for each column. "
        + "list, set: an element for each row."),
    .init(
      "caches.*.load.timeout", .duration,
      "How long it may take. Default: postgres.loader.timeout."),
    .init(
      "caches.*.write", .sectionOr(.choice(["around"])),
      "What a SET means for PostgreSQL; a text is its policy. Default: around."),
    .init(
      "caches.*.write.policy", .choice(words(WriteSettings.Policy.self)),
      "around: nothing, the application writes there. through: the statement commits before the value is "
        + "stored. behind: the value is stored and journalled, and the statement runs later."),
    .init(
      "caches.*.write.sql", .text,
      "One statement; :name binds a column of the template, :value the value and :ttl its milliseconds or NULL."
    ),
    .init(
      "caches.*.write.delay", .duration, default: "500ms",
      "behind: how long an entry waits for others of its batch."),
    .init(
      "caches.*.write.batch", .count(1...10_000), default: "200",
      "behind: how many entries a batch has at most."),
    .init(
      "caches.*.write.attempts", .count(1...1_000), default: "5",
      "behind: how often an entry is tried before it goes to the dead-letter stream."),
    .init(
      "caches.*.write.most", .count(1...1_000_000), default: "10000",
      "behind: how many entries of the whole fleet may be pending before a SET waits."),
    .init(
      "caches.*.write.wait", .duration, default: "1s",
      "behind: how long such a SET waits; then it is refused with TRYAGAIN."),
    .init(
      "caches.*.stampede", .section,
      "What keeps many readers of one missing key from asking PostgreSQL at once."
    ),
    .init(
      "caches.*.stampede.coalesce", .flag,
      "Whether readers of one missing key on this host wait for the one that loads it or, where the application "
        + "loads, for the value of the one that was told of the miss. Default: true with load, otherwise false."
    ),
    .init(
      "caches.*.stampede.lock", .orFalse(.duration), default: "false",
      "For how long at most one host keeps the others from loading the same key."),
    .init(
      "caches.*.stampede.early", .factor, default: "false",
      "Refreshes a key at random before it expires, the sooner the longer its load takes (XFetch). true is 1; "
        + "a larger number begins sooner."),
    .init(
      "caches.*.stampede.wait", .duration, default: "1s",
      "How long a reader waits at most for what another one loads. Then it gets a miss, and with load, once the "
        + "statement's own time is over too, an error."),
    .init(
      "caches.*.onChange", .choice(words(CacheRule.OnChange.self)), default: "forget",
      "What becomes of a key when its row changes. forget: it is deleted. refresh: it is deleted, and loaded "
        + "again at once if it was read lately."),
    .init(
      "caches.*.failSafe", .orFalse(.duration), default: "false",
      "For how long beyond the bound of staleness the last value is still answered, counted, while PostgreSQL "
        + "cannot be reached."),
  ]
}
