"""Sentence templates of the stories corpus. A plot is a sequence of beats; a template tells a beat.

A slot such as `{animal}` is drawn once per story. A slot that starts with `any_` is drawn anew each
time. `{he}`, `{him}` and `{his}` agree with the child, `{sound}` with the animal. The last fifth of
each beat's templates is held out: it occurs only in the splits `train` and `score`.
"""

from __future__ import annotations

SLOTS: dict[str, str] = dict(
    slot.split("=")
    for slot in (
        "child=names, friend=names, kin=family, animal=animals, color=colors, color2=colors,"
        " size=size, size2=size, toy=toys, place=places, place2=places, food=food, fruit=fruit,"
        " drink=drinks, cloth=clothes, vehicle=vehicles, instrument=instruments, tool=tools,"
        " furniture=furniture, plant=nature, sky=sky, weather=weather, weather2=weather,"
        " time=time of day, day=days, season=seasons, number=numbers, body=body parts,"
        " glad=positive feelings, sad=negative feelings, touch=touch, taste=tastes, shape=shapes,"
        " job=jobs, kitchen=kitchen things, move=movement, say=speech, laugh=laughing, cry=crying,"
        " look=perception, think=thinking, do=hand actions, make=making, give=giving, eat=eating,"
        " cook=cooking, rest=resting, manner=manner"
    ).split(", ")
)
"""Slot -> concept of the lexicon. `color2` differs from `color`, and so on."""

BEATS: dict[str, tuple[str, ...]] = {
    "open": (
        "Once upon a time there was a {size} child named {child}. {child} lived near the {place} with {his} {kin}.",
        "{child} was a {glad} child who lived by the {place}. Every {time}, {he} played there with {his} {kin}.",
        "One {weather} {time}, {child} {any_move} to the {place}. {His} {kin} came too.",
        "There was once a child whose name was {child}. {He} loved the {place} and {he} loved {his} {kin}.",
        "On {day}, {child} and {his} {kin} went to the {place}. It was a {weather} {time}.",
        "It was {season} and the air was {weather}. {child} {any_move} to the {place} with {his} {kin}.",
        "{child} was {number} years old. {He} lived in a {size} {color2} house near the {place} with {his} {kin}.",
        "Every {day}, {child} and {his} {kin} {any_move} to the {place}. {child} was always {glad} there.",
        "In a {size} house near the {place} lived {child} and {his} {kin}. They liked {season} best of all.",
        "Do you know {child}? {He} is the {size} child from the house at the {place}, and {his} {kin} lives there too.",
    ),
    "scene": (
        "They saw the {sky}, and the day was {weather}.",
        "That {time}, the {sky} looked {color2} and {he} {any_think} it was pretty.",
        "It was a {weather} {time} in {season}, and {child} wore {his} {color} {cloth}.",
        "{child} put on {his} {touch} {cloth} because the {time} was {weather}.",
        "They {any_look} a {size2} {plant} near the {place}. It was {shape} and {touch}.",
        "A {color2} {plant} grew there, and {child} {any_do} it {any_manner}.",
        "The {place} was quiet on that {weather} {day}.",
        "{child} {any_rest} under a {plant} and {any_look} the {sky}.",
        "How {weather} it was! So {child} had {his} {color} {cloth} on.",
        "Above the {place} the {sky} was {color2}, as on every {time} in {season}.",
    ),
    "own": (
        "{child} had a {size} {color} {toy}. It was {touch} and {he} took it everywhere.",
        "{child} loved {his} {color} {toy} more than all other things. It was a gift from {his} {kin}.",
        '{His} {kin} {any_give} {him} a {color} {toy}. "It is so {touch}!" {any_say} {child}.',
        "{His} best thing was a {color} {toy}, {size} and {shape}. {child} {any_do} it all day.",
        "Of all that {child} had, {he} liked the {color} {toy} best, for it was {touch} and {shape}.",
    ),
    "lose": (
        "But then the {toy} was gone. {child} was very {sad} and {any_cry}.",
        'In the {time} {he} {any_do} the {toy} too fast, and it fell into the {place2}. "Oh no!" '
        "{any_say} {child}. {He} was {sad}.",
        "At the {place2}, {child} lost {his} {color} {toy}. {He} {any_cry} and felt {sad}.",
        "A {size2} {animal} came and took the {toy} away. {child} was {sad}.",
        "But where was the {toy}? It was not there any more, and {child}, who was {sad} now, {any_cry}.",
    ),
    "search": (
        "{child} looked under the {furniture} and behind the {plant}, but the {toy} was not there.",
        "{He} {any_move} to the {place2} and looked for it. {friend} came to help.",
        '"Can you help me find my {toy}?" {any_say} {child}. "Yes," {any_say} {friend}, and they {any_move} to the {place2}.',
        "{friend} looked in the {vehicle} and {child} looked in the {tool}. No {color} {toy}!",
        "They looked by the {furniture}, by the {plant} and in the {vehicle}, and {friend} looked in the {place2}.",
    ),
    "find": (
        'Then {friend} {any_look} the {color} {toy} near a {animal}. "Here is your {toy}!" {any_say} {friend}.',
        "At last {he} {any_look} a {animal}. The {animal} {sound}, and next to it was the {color} {toy}.",
        "A {animal} {sound} {any_manner}. It sat on the {color} {toy}! {child} {any_laugh} and {any_do} the {toy}.",
        '{His} {kin} {any_look} the {toy} under a {color2} {cloth}. "Is this your {color} {toy}?" {any_say} {his} {kin}.',
        "And there, right behind the {animal} that {sound}, was the {toy}, as {color} as ever.",
    ),
    "meet": (
        "At the {place}, {child} {any_look} a {size2} {color} {animal}. The {animal} {sound}.",
        "Then a {color} {animal} {any_move} out of the {place2}. It was {size2} and {touch}, and it {sound}.",
        "{child} {any_look} a {animal} behind a {plant}. It was {color} and its {body} was {size2}. It {sound} {any_manner}.",
        '"Look, a {color} {animal}!" {any_say} {child}. The {animal} {sound} and {any_move} to {him}.',
        "Something {sound} there. It was {color}, it was {size2}, and it was a {animal}!",
    ),
    "trouble": (
        "The {animal} was {sad} because it had no {fruit} to eat.",
        "The {animal} had hurt its {body} and it was {sad}. {child} {any_think} it needed help.",
        "The {animal} was stuck in a {tool}. It {any_cry} and looked very {sad}.",
        "The {animal} was {sad} because it had lost {number} {animals} from its family.",
        "No other {animals} were there, so the {animal} was all alone and {sad}.",
    ),
    "help": (
        "{child} {any_give} the {animal} a {fruit}. The {animal} {any_eat} it {any_manner}.",
        "{child} {any_do} the {animal} {any_manner} and {any_give} it some {drink} in a {color2} {kitchen}.",
        "{His} {kin} came with a {tool} and {child} {any_do} the {animal}. It was not {sad} any more.",
        '"Do not be {sad}, {animal}," {any_say} {child}. {He} {any_give} it {number} {fruits}.',
        "To help the {animal}, {child} {any_do} its {body} and {any_give} it {drink} and {fruits}.",
    ),
    "thanks": (
        "The {animal} {sound} and {any_move} around {him}. Now it was {glad}.",
        "From then on, the {color} {animal} {any_move} to the {place} every {time} to see {child}.",
        '"Thank you," {any_say} the {color} {animal}. "You are my friend, {child}."',
        "The {animal} followed {child} home and {any_rest} on the {color2} {furniture}.",
        "Was the {animal} still {sad}? No! It {sound} and it {any_move} home with {child}.",
    ),
    "plan": (
        '"I want to make {food}," {any_say} {child}. {His} {kin} {any_laugh}. "We need {number} {fruits} and some {drink}."',
        "{child} wanted to make {taste} {food} for {friend}. {His} {kin} {any_give} {him} a {kitchen}.",
        "{friend} was {sad}, so {child} and {his} {kin} {any_cook} some {food} in a {size2} {kitchen}.",
        "They had no {food} in the house. {child} {any_do} a {tool} and went out to get {number} {fruits}.",
        "What {child} wanted was {food}, and so {his} {kin} {any_do} the {size2} {kitchen}.",
    ),
    "cook": (
        "First they {any_cook} the {fruits}. Then {child} {any_cook} the {food} in the {kitchen} {any_manner}.",
        "{child} {any_do} the {kitchen} and {his} {kin} {any_cook} the {food}. It was {taste}.",
        "They put a {fruit} into the {kitchen} and {any_cook} it with {drink}.",
        "A {animal} {sound} at the door. It smelled the {food} that {child} {any_cook}.",
        "In the {kitchen} they {any_cook} {number} {fruits}, and the {food} turned {color}.",
    ),
    "taste": (
        '{child} {any_eat} the {food}. "It is so {taste}!" {he} {any_say}.',
        '{friend} came and {any_eat} some {food}. "How {taste}!" {any_say} {friend} and {any_laugh}.',
        "The {food} burned {child} and hurt {his} {body}. {He} was {sad}, but {his} {kin} {any_give} {him} {drink}.",
        'Oh no, the {food} was not {taste} at all! {child} was {sad} and {any_cry}. "We can try again," {any_say} {his} {kin}.',
        "So {taste} was the {food} that {friend} and {child} {any_eat} it all.",
    ),
    "ride": (
        "They took the {color} {vehicle} to the {place2}. {child} sat next to {his} {kin}.",
        '"Let us go to the {place2}," {any_say} {his} {kin}. They went in a {size2} {color} {vehicle}.',
        'A {color} {vehicle} came by. The {job} {any_say}, "Come with me to the {place2}!"',
        "{child} and {friend} got into the {color} {vehicle} and it took them to the {place2}.",
        "To the {place2} they went, in a {vehicle} that was {color} and {size2}.",
    ),
    "sights": (
        "On the way they {any_look} {number} {animals} and a {plant}. The {animals} {sound}.",
        "From the {vehicle}, {child} {any_look} a {shape} {place} and a {animal} that {sound}.",
        '{child} {any_look} {number} {color2} {animals} by the road. "They are {size2}!" {he} {any_say}.',
        "It was {weather} and {child} {any_look} the {sky} from the {vehicle}.",
        "What did {child} see from the {vehicle}? {number} {animals}, a {plant} and the {sky}!",
    ),
    "stop": (
        "Then the {vehicle} stopped. {child} was {sad}, but a {job} came with a {tool} and {any_make} it.",
        "All at once the day was {weather2} and the {vehicle} could not move. They were {sad}. A {job} helped them.",
        "A {animal} {any_rest} on the road, so the {vehicle} stopped. {child} was {sad}. The {job} "
        "{any_do} the {animal} {any_manner}.",
        'The {vehicle} hit a {plant}. "I am {sad}," {any_say} {child}. "I can fix it," {any_say} the {job}.',
        "No more could the {vehicle} go, and they were {sad}, until a {job} with a {tool} {any_make} it.",
    ),
    "arrive": (
        "At the {place2}, {child} {any_move} out of the {color} {vehicle} and {any_laugh}.",
        "When they got to the {place2}, {friend} was there with a {toy}. They {any_move} and {any_laugh}.",
        'The {place2} was {size2} and {color2}. "I love the {place2}!" {any_say} {child}.',
        "They were at the {place2} by {time}. The {job} {any_say} goodbye and the {vehicle} went away.",
        "There was the {place2} at last, and out of the {vehicle} {any_move} {child}.",
    ),
    "sow": (
        "{child} wanted to grow a {color} {plant}. {He} {any_do} a {tool} and {any_move} to the {place}.",
        'The {job} {any_give} {child} a {size2} seed. "It will be a {color} {plant}," {any_say} the {job}.',
        "{child} and {friend} put {number} seeds in the ground with a {tool}. They wanted a {color} {plant}.",
        '"Can we grow a {plant}?" {any_say} {child}. {His} {kin} {any_do} the {tool}. "Yes, a {color} {plant}!"',
        "A {color} {plant} was what {child} wished to grow, and the {job} came with a {tool}.",
    ),
    "wait": (
        "Every {time}, {child} {any_give} it water. But nothing grew, and {he} was {sad}.",
        "{He} waited for {number} days. It was {weather} and the {plant} did not grow. {child} was {sad}.",
        "A {animal} {any_move} over the ground and {sound}. {child} was {sad} that it would hurt the {plant}.",
        "{child} {any_rest} next to it every {time}. {He} {any_think} it would never grow and felt {sad}.",
        "Days went by, {number} of them, and {child} grew {sad}, for there was no {plant}.",
    ),
    "grow": (
        "Then one {time} there was a {color} {plant}! It was {size2} and {shape}.",
        "On {day} {he} {any_look} something {color}. The {plant} had grown! {child} {any_laugh}.",
        'After {number} days the {plant} was {size2}. "Look how {color} it is!" {any_say} {child}.',
        "The {sky} was out and the {plant} grew. It was {color} and {touch}.",
        "And what was so {color} and so {size2} on {day}? It was the {plant}!",
    ),
    "hurt": (
        "{child} {any_move} too fast and fell off the {furniture}. {He} hurt {his} {body} and {any_cry}.",
        "A {animal} {sound} so loud that {child} fell and hurt {his} {body}. {He} was {sad}.",
        "{child} was on a {color} {vehicle}. It hit a {plant} and {he} hurt {his} {body}. {child} {any_cry}.",
        "{child} and {friend} {any_move} with a {toy}. Then {child} fell on {his} {body} and felt {sad}.",
        "Down fell {child}, right on {his} {body}, and so {he} {any_cry}.",
    ),
    "care": (
        'The {job} looked at the {body} and {any_say}, "Do not be {sad}. It will be fine."',
        '{His} {kin} put a {color2} {cloth} on the {body}. "Are you still {sad}?" {any_say} {his} {kin}.',
        '{friend} {any_give} {him} a {color} {toy}. "This is for you and your {body}," {any_say} {friend}.',
        "They went to the {job} in a {vehicle}. The {job} {any_do} the {body} {any_manner}.",
        "With a {touch} {cloth} around {his} {body}, {child} {any_rest} while {his} {kin} {any_say} kind words.",
    ),
    "better": (
        "After {number} days the {body} was better and {child} {any_move} again.",
        "{child} {any_rest} on the {furniture}. Soon {his} {body} did not hurt and {he} {any_laugh}.",
        "{His} {kin} {any_give} {him} {drink} in a {color2} {kitchen}, and the {body} felt better.",
        '"My {body} is well again!" {any_say} {child}. {He} {any_move} all around the {furniture}.',
        "Well again was the {body}, and around the {furniture} {any_move} {child}.",
    ),
    "wish": (
        '{child} wanted a {color} {instrument}. "I can make it," {he} {any_say}.',
        "{friend} had a {color} {instrument}. {child} had none and was {sad}.",
        "{child} heard a {instrument}. It was so {touch} and {color} that {he} wanted it too.",
        "A {job} came to the {place} with a {color} {instrument} and played for {child}.",
        "Oh, for a {color} {instrument}! It was all that {child} {any_think} of.",
    ),
    "build": (
        "{He} {any_make} it from a {kitchen} and a {tool}. It was {shape} and {size2}.",
        "{child} and {his} {kin} {any_make} the {instrument} with a {tool}. It took {number} days.",
        "The {job} {any_give} {him} a {tool}, and {child} {any_make} a {shape} {color} {instrument}.",
        "First it fell down and {child} was {sad}. Then {he} {any_make} it again {any_manner}.",
        "With a {tool} from the {job}, and {any_manner}, {child} {any_make} the {instrument}.",
    ),
    "play": (
        "{child} played the {instrument} so well that {friend} {any_laugh}.",
        "When {child} played the {color} {instrument}, a {animal} {sound} and {number} {animals} {any_move}.",
        '"Play it again, {child}!" {any_say} {friend}. So {he} played the {instrument} {any_manner}.',
        "All came to the {place} to hear the {color} {instrument}. The {job} {any_laugh}.",
        "So {any_manner} played {child} that even the {animal} {sound} with the {instrument}.",
    ),
    "meal": (
        "For dinner they had {food} with {drink}. {child} {any_eat} a {fruit} too. It was {taste}.",
        "{His} {kin} {any_give} {him} {taste} {food} and a {kitchen} of {drink}.",
        "Then they {any_rest} on the {furniture} and {any_eat} {taste} {food}.",
        "{child} {any_eat} {number} {fruits} and {friend} {any_eat} {food}.",
        "How {taste} the {food} was that {child} and {his} {kin} {any_eat} with their {drink}!",
    ),
    "mood": (
        "Now {child} was not {sad} any more. {He} was {glad}.",
        '{child} {any_laugh}. "I am so {glad}," {he} {any_say}.',
        "{His} {kin} {any_laugh} because {child} was {glad} again.",
        '"I was {sad}, but now I am {glad}," {any_say} {child} to {friend}.',
        "Gone was all that was {sad}, and {glad} was {child}.",
    ),
    "end": (
        "That {time}, {child} {any_rest} in {his} bed and {any_think} that the {place} was good.",
        "They all {any_move} home. {child} was {glad}, and so was {his} {kin}.",
        "{child} and {friend} went home from the {place} and {any_rest} on the {furniture}.",
        '"What a good {day}!" {any_say} {child}. {His} {kin} {any_laugh}, and they went home.',
        "When it was {time}, {his} {kin} kissed {him}, and {child} {any_rest}. The end.",
        "From then on, {child} and {friend} were best friends at the {place}.",
        "And {child} {any_think} that the {place} was the best place of all.",
        "The {sky} was over the {place} when {child} {any_rest} at last, {glad} as ever.",
        "So ends the tale of {child}, of {his} {kin} and of the {place}.",
        "And if you go to the {place} on a {day}, you may still see {child} and {friend} there.",
    ),
}
"""Beat -> templates."""

PLOTS: tuple[tuple[str, ...], ...] = (
    ("open", "scene", "own", "lose", "search", "find", "mood", "end"),
    ("open", "scene", "meet", "trouble", "help", "thanks", "meal", "end"),
    ("open", "plan", "cook", "taste", "scene", "meal", "mood", "end"),
    ("open", "ride", "sights", "stop", "arrive", "mood", "end"),
    ("open", "sow", "wait", "grow", "scene", "meal", "mood", "end"),
    ("open", "scene", "hurt", "care", "better", "meal", "mood", "end"),
    ("open", "wish", "build", "play", "scene", "meal", "mood", "end"),
    ("open", "own", "lose", "meet", "find", "thanks", "mood", "end"),
)
"""Each story follows one plot; the beats keep their order."""


def n_held_out(n_templates: int) -> int:
    """How many of a beat's templates are held out: a fifth."""
    return n_templates // 5
