// Docstrings of StringView.
#pragma once

namespace memchannel::docs {

inline constexpr char string_view[] =
    R"(The characters of a str that another interpreter lends, read where they are.

It behaves as the str does where that takes no copy: len(), indexing, slicing (which shares the characters, also with
a step), search, ``in``, comparison with str and other views, iteration, and the hash is the str's. ``str(view)``
copies. It keeps the str and its interpreter alive until it is released or dropped, and so does each slice.

Searches take time linear in the length of both texts, whatever they hold. Of long texts they let other threads run,
and like those of str they cannot be interrupted.

Examples
--------
>>> import memchannel
>>> ch = memchannel.MemChannel()
>>> ch.send("one if by land, two if by sea")
>>> with ch.recv() as view:
...     view.find("if"), view.count("if"), view[16:19] == "two", str(view[-3:])
(4, 2, True, 'sea')
)";

inline constexpr char text_find[] = R"(find($self, sub, start=None, end=None, /)
--

The lowest index of `sub`, a str or StringView, within [start:end]; -1 if it is not there.)";

inline constexpr char text_rfind[] = R"(rfind($self, sub, start=None, end=None, /)
--

The highest index of `sub`, a str or StringView, within [start:end]; -1 if it is not there.)";

inline constexpr char text_index[] = R"(index($self, sub, start=None, end=None, /)
--

As `find`, but raises ValueError if it is not there.)";

inline constexpr char text_rindex[] = R"(rindex($self, sub, start=None, end=None, /)
--

As `rfind`, but raises ValueError if it is not there.)";

inline constexpr char text_count[] = R"(count($self, sub, start=None, end=None, /)
--

How many times `sub`, a str or StringView, is within [start:end], without overlaps.)";

inline constexpr char text_startswith[] = R"(startswith($self, prefix, start=None, end=None, /)
--

Whether [start:end] begins with the prefix, or with one of a tuple of them.)";

inline constexpr char text_endswith[] = R"(endswith($self, suffix, start=None, end=None, /)
--

Whether [start:end] ends with the suffix, or with one of a tuple of them.)";

inline constexpr char text_release[] = R"(release($self, /)
--

Give the text back; slices keep it until they are gone. Further use raises ValueError.)";

}  // namespace memchannel::docs
