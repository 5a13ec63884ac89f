"""Sentences of everyday words from a small grammar of our own: nothing here was taken from any text.

A symbol in angle brackets is replaced by one of its alternatives until none is left.
"""

import random
import re

from num2words import num2words  # type: ignore[import-untyped]

# One alternative per ``|``; repeated alternatives are simply likelier.
RULES: dict[str, str] = {
    "start": "<say>|<say>|<ask>|<tell>|<chat>|<number>|<story>|<story>|<long>|<list>",
    "say": "<who> <did> <place>.|<who> <did> <when>.|<when>, <who> <did>.|<who> <feel> because <who> <did>."
    "|<there> <thing> <place>.|the <thing> is <quality>.|the <thing> <place> is <quality> and <quality>."
    "|it is <quality> <place>.|<who> <have> <a_thing>.|this <thing> belongs to <whom>."
    "|<who> <will> <do> <when>.|<i> <like> <doing>.|<i> <like> <foods> more than <foods>.|<who> never <did>."
    "|<who> would <do> if <who> could.|my <kin>'s <thing> is <place>.|<i> have been <doing> since <day>."
    "|<who> had already <done> when <who> <did>.",
    "ask": "where is <the_thing>?|can you <do>?|could you please <do>?|did <who> <do>?|why did <who> <do>?"
    "|when will <who> <do>?|have you ever <done>?|who <did> <when>?|what is <the_thing> doing <place>?"
    "|how many <things> do you need?|how far is it to the <spot>?|do you want <some_food>?"
    "|would you like to <do> <when>?|is there <a_thing> <place>?|whose <thing> is this?"
    "|what did <who> say about <the_thing>?|are you <feeling>?|which <thing> do you like best?"
    "|what are you going to do <when>?|shall we <do>?|isn't it <quality>?",
    "tell": "please <do>.|don't <do>.|let's <do> <when>.|<do> before you <do>.|<do> and then <do>."
    "|never <do> <place>.|tell <whom> to <do>.|remember to <do> <when>.|please be <quality>!"
    "|bring me <the_thing>, please.|turn <side> at the <spot>.|try not to <do>.|you should <do>."
    "|you must not <do> <place>.",
    "chat": "<short>|<short>|<short>|<hello>, <name>.|<hello>! how are you?|<thanks>.|<thanks>, <name>.|<yesno>."
    "|<yesno>, <thanks>.|<yesno>, <i> <feel>.|sorry, i am late.|excuse me, where is the <spot>?|<bye>."
    "|<bye>, <name>.|what a <quality> <thing>!|how <quality>!|<quality>.|<things>.|<foods>.|<day>.|<month>."
    "|<color>.|<name>.|<feeling>.|the <thing>.|<a_thing>.|<doing>.|very <quality>.|not <when>.|<num>."
    "|<place>.|<adverb>.|<verb1>.|<color> and <color>.|my <kin>.|<spot>.|<food>, please.",
    "short": (
        "no.|yes.|maybe.|sure.|okay.|well done.|come on.|wait a minute.|i see.|right now.|never mind.|go ahead."
        "|who is it?|what happened?|how come?|what else?|not yet.|of course not.|all right.|that is fine."
        "|it works.|i know.|you are welcome.|be careful.|look out!|hurry up.|sit down.|stand up.|follow me."
        "|listen.|stop.|help!|really?|why not?|me too.|not at all.|that's true.|that's enough.|it depends."
        "|i agree.|i don't know.|i don't care.|i can't.|i won't.|they didn't.|she isn't here.|we're ready."
        "|you're right.|he's gone.|it's over.|what's that?|who's there?|here you are.|over there.|once more."
        "|see you soon."
    ),
    "hello": "hello|hi|good morning|good evening|good afternoon|welcome|hey",
    "bye": "goodbye|good night|see you <when>|take care|bye bye|until <day>|have a nice day|good luck|farewell",
    "thanks": "thanks|thank you|thanks a lot|many thanks|thank you for the <thing>|thank you for <doing>",
    "yesno": ("yes|no|maybe|of course|sure|all right|not really|perhaps|certainly|i think so|i hope so|i'm afraid not"),
    "number": "it costs <money>.|the <thing> costs <money>.|the <spot> opens at <time>.|it is <time>."
    "|<who> will come at <time>.|the meeting is on <date>.|my birthday is on <date>.|he was born in <year>."
    "|<who> left in <year>.|there are <num> <things>.|<who> bought <num> <things> for <money>."
    "|the number is <digits>.|call <digits>.|chapter <num>.|page <num>.|room <num>."
    "|<num> plus <num> is <num>.|about <percent> of the <things> are <color>."
    "|it weighs <num> point <digit> pounds.|the <spot> is <num> miles away.|the temperature is <num> degrees."
    "|i am <num> years old.|<who> came in <ordinal>.|the <ordinal> <thing> is <quality>.|<num>."
    "|<num>, <num>, <num>.|<year>.|<date>.|<time>.|<money>.|the year <year>."
    "|<who> ran <num> kilometers in <num> minutes.|flight <digits> leaves at <time>."
    "|take the <ordinal> street on the <side>.|it was a <percent> increase."
    "|the bill was <money> and <who> paid <money>.|on <date>, <year>, <who> <did>."
    "|<num> times <num> makes <num>.|the score was <num> to <num>.|the bus comes every <num> minutes.",
    "story": "when <who> <did>, <who> <did>.|<who> <did>, but <who> <did>.|if you <do>, <who> will <do>."
    "|after <who> <did>, <who> <did>.|<who> said that <who> <did>.|<who> <did> while <who> <did>."
    "|although <who> <feel>, <who> <did>.|before <who> <did>, <who> had <done>."
    "|<who> wanted to <do>, so <who> <did> <place>.|as soon as <who> <did>, the <thing> <happened>."
    "|<who> asked <whom> to <do>.|<i> thought that <the_thing> was <quality>, but it was <quality>."
    "|the <thing> <happened>, and <who> <did>.|<i> <like> to <do>, especially <when>."
    "|<who> is so <feeling> that <who> can't <do>.|nobody knows why <who> <did>."
    "|the <quality> <thing> that <who> <made> is <place>.|<who> <did>, and then <who> <did> <when>."
    "|instead of <doing>, <who> <did>.",
    "long": "<clause>, and <clause>, but <clause>.|when <clause>, <clause>, so <clause>."
    "|<when>, <clause> because <clause>, and <clause>.|if <clause>, you should <do> <place>, or <do> <when>."
    "|<clause> who <did> <place> and then <did>, although <clause>.|<clause>. <say>|<clause>. <story>"
    "|<hello>, <name>. <ask>|<ask> <say>|<short> <say>|<story> <ask>"
    "|<clause> because <clause>, and <clause> <when>."
    "|<clause> <when>, and the <quality> <thing> that <who> <made> <place> <happened> before <clause>.",
    "clause": "<who> <did> <place>|<who> <did> <when>|the <quality> <thing> <happened>|<who> <will> <do>"
    "|<there> <a_thing> <place>|my <kin> and i <did> <place>|<who> told <whom> to <do>"
    "|the <person> from the <spot> <did>|<who> <feel>",
    "list": "<i> need <some_food>, <some_food> and <some_food>.|we saw <a_thing>, <a_thing>, and <a_thing>."
    "|<name>, <name> and <name> <did>.|<color>, <color>, <color> and <color>.|on <day>, <day> and <day>."
    "|i packed <a_thing>, <num> <things>, and <some_food> for the trip."
    "|first <do>, then <do>, and finally <do>.|the <thing> was <quality>, <quality> and <color>.",
    "there": "there is <a_thing>, not|there was|i saw|we found|you will see|look at",
    "who": "i|you|he|she|we|they|my <kin>|the <person>|<name>|our <kin>|her <kin>|his <kin>|a <person>"
    "|the <quality> <person>|everyone|someone|my friend|the <animal>|the <animals>|nobody|people|<i>|her"
    "|the <person> next door",
    "i": "i|we|they|you|i|we",
    "whom": "him|her|them|me|us|my <kin>|the <person>|<name>|everyone|his <kin>|our <kin>",
    "did": "<made> <the_thing>|<made> <a_thing>|<moved> the <spot>|went <doing>|<spoke> <whom>|waited for <whom>"
    "|looked at <the_thing>|<ate> <some_food>|forgot to <do>|wanted to <do>|tried to <do>|started <doing>"
    "|was <doing>|were <doing>|kept <doing>|slept <adverb>|laughed <adverb>|cried <adverb>"
    "|gave <whom> <a_thing>|showed <whom> <the_thing>|lost <the_thing>|smiled|fell asleep|stayed at home"
    "|played <game>|stopped <doing>|began to <do>|decided to <do>|had to <do>|used to <do>"
    "|learned how to <do>|got up <adverb>|helped <whom> to <do>",
    "made": "bought|sold|found|made|built|cleaned|washed|painted|carried|opened|closed|broke|fixed|moved|dropped"
    "|wanted|needed|saw|took|brought|left|hid|kept|used|borrowed|chose|threw|pulled|pushed|held|counted"
    "|watched|drew|remembered|loved|hated",
    "moved": "walked to|drove to|ran to|came from|went to|went back to|returned from|arrived at|stopped at|flew to"
    "|hurried past|rode to",
    "spoke": (
        "talked to|called|listened to|wrote to|thanked|asked|met|visited|helped|saw|heard|laughed with|waved to"
        "|danced with|shouted at"
    ),
    "ate": "ate|cooked|ordered|tasted|shared|made|bought|finished|dropped|liked",
    "have": "have|had|has|needs|wants|sold|found|lost",
    "will": "will|can|should|might|must|could|would|may",
    "happened": (
        "broke|fell down|stopped|disappeared|burned down|turned <color>|was gone|worked again|arrived <when>"
        "|began to move|made a noise|was <quality>"
    ),
    "feel": "was <feeling>|were <feeling>|felt <feeling>|became very <feeling>|seemed <feeling>|is <feeling>"
    "|are all <feeling>|looked <feeling>",
    "feeling": (
        "happy|sad|tired|hungry|thirsty|angry|afraid|sick|proud|bored|excited|worried|surprised|ready|busy|alone"
        "|lonely|safe|nervous|sleepy|calm|glad|sorry|shy|upset|healthy"
    ),
    "like": "like|love|enjoy|prefer|hate|don't like|would like|want",
    "do": "<verb1>|buy <the_thing>|sell <the_thing>|clean <the_thing>|open <the_thing>|close the door"
    "|lock the <thing>|wash your hands|take <the_thing>|bring <some_food>|cook <some_food>|eat <some_food>"
    "|drink <drink>|read a book|write a letter|call <whom>|help <whom>|visit <whom>|wait for <whom>"
    "|go to the <spot>|come to the <spot>|drive to the <spot>|walk along the <spot>|play <game>|learn <game>"
    "|listen to music|look at the <thing>|turn on the <thing>|turn off the <thing>|put the <thing> <place>"
    "|leave the <thing> <place>|find the <thing>|fix the <thing>|paint the wall <color>|go to bed"
    "|get up <adverb>|speak <adverb>|sing a song|take a picture|pay for the <thing>|ask <whom>"
    "|talk about <the_thing>|catch the bus|change the light|stay here|watch television|make a plan",
    "verb1": (
        "swim|run|dance|sing|sleep|jump|laugh|wait|work|study|travel|rest|talk|leave|think|smile|drive|fly|climb"
        "|shout|whisper|win|stop|start|stay|begin"
    ),
    "doing": "swimming|running|dancing|singing|sleeping|cooking|reading|writing|waiting|working|studying|traveling"
    "|fishing|shopping|driving|walking <place>|playing <game>|looking for <the_thing>"
    "|talking about <the_thing>|talking to <whom>|eating <some_food>|drinking <drink>|washing the <thing>"
    "|watching the <animals>|making <some_food>|building <a_thing>",
    "done": "seen <the_thing>|eaten <some_food>|been to the <spot>|gone home|finished the <thing>|written a letter"
    "|lost <a_thing>|heard of <whom>|spoken to <whom>|driven <a_thing>|broken <the_thing>|slept <place>"
    "|forgotten the <thing>|taken <a_thing>|fallen asleep|flown to the <spot>|swum in the river|given up",
    "the_thing": "the <thing>|the <thing>|my <thing>|your <thing>|his <thing>|her <thing>|our <thing>"
    "|the <quality> <thing>|that <thing>|this <thing>|these <things>|those <things>|the <color> <thing>"
    "|all the <things>|it",
    "a_thing": "a new <thing>|a <quality> <thing>|a <color> <thing>|another <thing>|some <things>|two <things>"
    "|<num> <things>|a few <things>|many <things>|a <thing>|no <things>",
    "thing": (
        "book|car|house|table|chair|door|window|key|phone|letter|bag|box|coat|hat|shirt|shoe|watch|clock|lamp|bed"
        "|cup|plate|glass|bottle|knife|fork|spoon|bowl|bike|boat|train|plane|ticket|picture|camera|computer|radio"
        "|newspaper|magazine|map|pen|pencil|ball|toy|gift|ring|umbrella|blanket|pillow|mirror|garden|tree|flower"
        "|stone|fire|roof|wall|floor|stairs|light|machine|engine|wheel|rope|ladder|hammer|nail|brush|towel|soap"
        "|basket|card|game|song|story|question|answer|idea|plan|job|lesson|movie|meal|bill|candle|carpet|curtain"
        "|drawer|shelf|suitcase|wallet|necklace|jacket|sweater|dress|skirt|sock|glove|scarf|button|pocket|belt"
        "|fence|gate|bridge|path|message|package|keyboard|screen|battery|piano|violin|drum|page|sign|line|problem"
        "|mistake|number|name|word|room"
    ),
    "things": (
        "books|cars|houses|tables|chairs|doors|windows|keys|letters|bags|boxes|coats|hats|shirts|shoes|watches"
        "|lamps|beds|cups|plates|glasses|bottles|knives|bikes|boats|trains|tickets|pictures|pens|balls|toys|gifts"
        "|rings|umbrellas|blankets|trees|flowers|stones|lights|machines|wheels|towels|baskets|cards|games|songs"
        "|stories|questions|answers|ideas|plans|lessons|movies|candles|apples|oranges|eggs|potatoes|tomatoes"
        "|children|students|friends|people|days|weeks|hours|minutes|years|months|dogs|cats|birds|horses|sheep"
        "|teeth|feet|mice|leaves|pieces|sandwiches|cookies|words|pages|miles"
    ),
    "quality": (
        "big|small|large|little|old|new|young|good|bad|nice|beautiful|ugly|clean|dirty|cheap|expensive|fast|slow"
        "|hot|cold|warm|cool|wet|dry|heavy|light|dark|bright|soft|hard|loud|quiet|easy|difficult|empty|full|early"
        "|late|long|short|tall|wide|narrow|thick|thin|deep|strong|weak|sharp|sweet|bitter|fresh|broken|strange"
        "|famous|important|interesting|boring|dangerous|safe|funny|serious|simple|perfect|terrible|wonderful"
        "|possible|different|wrong|right|careful|polite|lucky|rich|poor|smooth|round|square|flat|open|closed|free"
        "|ready|lazy|clever|brave|honest|comfortable|friendly|noisy|crowded|modern|huge|tiny|lovely|favorite"
        "|usual|special|busy|true"
    ),
    "color": "red|blue|green|yellow|black|white|brown|gray|orange|purple|pink|dark blue|light green|golden|silver",
    "food": (
        "bread|butter|cheese|milk|soup|rice|meat|fish|chicken|beef|salad|an apple|a sandwich|a cookie|chocolate"
        "|cake|ice cream|sugar|salt|a pizza|a banana|pasta|eggs|breakfast|lunch|dinner"
    ),
    "foods": "bread|butter|cheese|milk|soup|rice|meat|fish|chicken|salad|apples|oranges|bananas|sandwiches|cookies"
    "|chocolate|cake|ice cream|potatoes|beans|carrots|onions|mushrooms|strawberries|cherries|grapes|lemons"
    "|peaches|nuts|noodles|pancakes|tea|coffee|juice|honey|pepper|vegetables",
    "some_food": "some <foods>|<foods>|<food>|a piece of <foods>|too much <foods>|a lot of <foods>|fresh <foods>"
    "|hot <foods>|a plate of <foods>",
    "drink": (
        "water|milk|tea|coffee|juice|a glass of water|a cup of tea|a bottle of juice|some lemonade|hot chocolate"
        "|too much coffee"
    ),
    "game": "football|tennis|chess|cards|basketball|baseball|soccer|the piano|the guitar|the violin|the drums|golf"
    "|outside|in the snow|with the ball|a game",
    "place": (
        "in the <spot>|at the <spot>|near the <spot>|behind the <spot>|in front of the <spot>|next to the <spot>"
        "|on the table|under the bed|in the box|on the floor|over there|at home|at school|at work|upstairs"
        "|downstairs|outside|inside|across the street|around the corner|on the wall|by the window"
        "|in the middle of the <spot>|between the <spot> and the <spot>|far from the <spot>|on top of the <thing>"
        "|under the <thing>|beside the <thing>|in my <thing>|everywhere|in town|along the road|above the door"
        "|through the <spot>|against the wall"
    ),
    "spot": (
        "kitchen|bathroom|bedroom|living room|garden|house|school|office|store|shop|market|bank|library|hospital"
        "|hotel|restaurant|station|airport|park|beach|river|lake|sea|mountain|forest|village|city|town|street"
        "|road|corner|bridge|church|museum|theater|cinema|farm|field|island|yard|garage|basement|hall|classroom"
        "|factory|castle|tower|post office|bus stop|police station|swimming pool|playground|supermarket|bakery"
        "|harbor|valley|hill|desert|square|building|university|gas station|parking lot|front door|back door|east"
        "|west|north|south"
    ),
    "when": "today|tomorrow|yesterday|now|soon|later|tonight|this morning|this evening|this afternoon|last night"
    "|last week|last year|next week|next month|next year|every day|every morning|every <day>|on <day>"
    "|on <day> morning|in <month>|in the morning|in the evening|at night|at noon|at <time>|<num> years ago"
    "|two days ago|an hour ago|in <num> minutes|once a week|before breakfast|after school|after dinner"
    "|all day|for a long time|for <num> days|since <month>|right now|as usual|again|sometimes|at the weekend"
    "|in winter|in summer|in spring|during the night|at the moment|from time to time",
    "adverb": "slowly|quickly|quietly|loudly|early|late|well|badly|carefully|happily|suddenly|together|alone|again"
    "|often|always|never|usually|seldom|finally|really|easily|almost|already|politely|immediately|hardly"
    "|twice|once|too much|very well",
    "kin": (
        "mother|father|brother|sister|son|daughter|uncle|aunt|cousin|grandmother|grandfather|wife|husband|parents"
        "|children|family|friend|neighbor|boss|teacher|doctor|dog|cat|team|class|baby|roommate|nephew|niece"
        "|grandparents"
    ),
    "person": (
        "man|woman|boy|girl|child|doctor|nurse|teacher|student|driver|farmer|cook|waiter|policeman|soldier|artist"
        "|writer|singer|actor|lawyer|worker|old man|old woman|young man|young lady|stranger|guest|customer"
        "|captain|pilot|king|queen|thief|manager|secretary|engineer|painter|baker|player|judge|mayor|visitor"
        "|passenger|crowd|gentleman|kids|men|women|tourists|police"
    ),
    "animal": (
        "dog|cat|bird|horse|cow|pig|sheep|goat|chicken|duck|mouse|rabbit|fox|bear|wolf|lion|tiger|elephant|monkey"
        "|snake|frog|bee|spider|turtle|squirrel|donkey|owl|whale|deer|butterfly|puppy|kitten"
    ),
    "animals": (
        "dogs|cats|birds|horses|cows|pigs|goats|chickens|ducks|mice|rabbits|bears|wolves|lions|monkeys|snakes"
        "|frogs|bees|spiders|geese|ants|fish"
    ),
    "name": (
        "john|mary|peter|anna|tom|susan|david|sarah|michael|linda|james|emily|robert|laura|paul|julia|mark|lisa"
        "|george|helen|daniel|alice|frank|rose|henry|kate|jack|emma|sam|jane|ben|lucy|martin|karen|steve"
        "|mister smith|missus brown|doctor jones|mister green|missus white|professor clark|mark twain|uncle bob"
        "|aunt mary|officer lee"
    ),
    "day": "monday|tuesday|wednesday|thursday|friday|saturday|sunday",
    "month": "january|february|march|april|may|june|july|august|september|october|november|december",
    "side": "left|right",
}
_SYMBOL = re.compile(r"<(\w+)>")


def sentence(chance: random.Random) -> str:
    """One sentence in the alphabet that the voice reads."""
    text = _expand("<start>", chance)
    text = re.sub(r"\ba (?=[aeio])", "an ", text)
    return text.strip(" ,")


def _expand(text: str, chance: random.Random) -> str:
    while match := _SYMBOL.search(text):
        text = text[: match.start()] + _symbol(match[1], chance) + text[match.end() :]
    return text


def _symbol(name: str, chance: random.Random) -> str:
    if name in RULES:
        return chance.choice(RULES[name].split("|"))
    return _NUMBERS[name](chance)


def words(number: float, to: str = "cardinal") -> str:
    """``number`` as the voice reads it: ``1942`` → ``nineteen forty two`` with ``to="year"``."""
    return str(num2words(number, to=to)).replace("-", " ").replace(",", "")


def _any_number(chance: random.Random) -> int:
    return chance.choice(
        [chance.randint(0, 12), chance.randint(10, 99), chance.randint(100, 999), chance.randint(1000, 9999)]
    )


def _time(chance: random.Random) -> str:
    hour, minute = (
        words(chance.randint(1, 12)),
        chance.choice([0, 5, 10, 15, 20, 25, 30, 45, 50, chance.randint(10, 59)]),
    )
    if minute == 0:
        return hour + chance.choice([" o'clock", " o'clock", "", " in the morning", " p m", " a m"])
    if minute < 10:
        return f"{hour} oh {words(minute)}"
    late = chance.choice(
        [f"{words(minute)} past {hour}", f"half past {hour}", f"a quarter to {hour}", f"a quarter past {hour}"]
    )
    return chance.choice([f"{hour} {words(minute)}", f"{hour} {words(minute)}", late])


def _date(chance: random.Random) -> str:
    month, day = chance.choice(RULES["month"].split("|")), words(chance.randint(1, 31), "ordinal")
    return chance.choice(
        [f"{month} {day}", f"the {day} of {month}", f"{chance.choice(RULES['day'].split('|'))}, {month} {day}"]
    )


def _money(chance: random.Random) -> str:
    whole, part = _any_number(chance), chance.randint(1, 99)
    unit = chance.choice(["dollars", "dollars", "dollars", "euros", "pounds"])
    dollars = "one dollar" if whole == 1 and unit == "dollars" else f"{words(whole)} {unit}"
    return chance.choice([dollars, dollars, f"{dollars} and {words(part)} cents", f"{words(part)} cents"])


_NUMBERS = {
    "num": lambda chance: words(chance.randint(2, 20) if chance.random() < 0.5 else _any_number(chance)),
    "digit": lambda chance: words(chance.randint(0, 9)),
    "digits": lambda chance: " ".join(words(chance.randint(0, 9)) for _ in range(chance.randint(3, 7))),
    "ordinal": lambda chance: words(chance.choice([chance.randint(1, 12), chance.randint(1, 100)]), "ordinal"),
    "year": lambda chance: words(chance.randint(1100, 2035), "year"),
    "percent": lambda chance: f"{words(chance.randint(1, 100))} percent",
    "money": _money,
    "time": _time,
    "date": _date,
}
