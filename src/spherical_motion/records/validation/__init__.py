"""Whether the files of a run are what a writer makes, checked before anything is made of them.

In: the text of `run.json`, lines of `events.jsonl`, parts of tables. Out: the same if it is sound,
or an error that names the place; what a lenient reader leaves out, `Parts` remembers.
"""

from spherical_motion.records.validation.document import check_document, parse_document
from spherical_motion.records.validation.event_lines import sound_events
from spherical_motion.records.validation.table_rows import Bounds

__all__ = [
    "Bounds",
    "check_document",
    "parse_document",
    "sound_events",
]
